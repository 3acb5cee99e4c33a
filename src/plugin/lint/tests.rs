use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;

const SMALLEST: &str = include_str!("../../../deploy/samples/smallest.yaml");
const PRODUCTION: &str = include_str!("../../../deploy/samples/production.yaml");

fn lint(files: &[(&str, &str)]) -> Result<Report, String> {
    let mut objects = Vec::new();
    for (file, text) in files {
        objects.extend(source::objects(file, text)?);
    }
    check(&objects)
}

/// `line:column rule field` of each finding.
fn found(report: &Report) -> Vec<String> {
    let line = |told: &Told| format!("{}:{} {} {}", told.line, told.column, told.rule, told.field);
    report.findings.iter().map(line).collect()
}

fn rules(report: &Report) -> Vec<&str> {
    report.findings.iter().map(|told| told.rule.as_str()).collect()
}

fn errors(report: &Report) -> Vec<&Told> {
    let all = report.findings.iter();
    all.filter(|told| told.severity == Severity::Error).collect()
}

#[test]
fn nothing_is_said_against_the_sample_for_production() {
    let report = lint(&[("production.yaml", PRODUCTION)]).unwrap();
    assert_eq!(found(&report), [""; 0]);
    assert_eq!(report.services[0].grade, Grade::A);
    assert_eq!(report.services[0].score, 100);
}

fn yaml_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "yaml") {
            found.push(path);
        }
    }
}

#[test]
fn no_sample_and_no_example_of_the_documents_has_an_error() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    yaml_files(&root.join("deploy/samples"), &mut files);
    let mut texts: Vec<(String, String)> = files
        .iter()
        .map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap()))
        .collect();
    let mut documents = vec![root.join("README.md")];
    documents.extend(
        std::fs::read_dir(root.join("docs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "md")),
    );
    for path in documents {
        let text = std::fs::read_to_string(&path).unwrap();
        for block in text.split("```yaml\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            let is_whole = block.lines().any(|line| line == "kind: PythonService");
            if is_whole && !block.contains('…') {
                texts.push((path.display().to_string(), block.to_owned()));
            }
        }
    }
    assert!(texts.len() >= 3, "{}", texts.len());
    for (name, text) in &texts {
        let report = lint(&[(name, text)]).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(errors(&report), Vec::<&Told>::new(), "{name}");
    }
}

#[test]
fn a_misspelt_field_is_told_where_it_is_and_what_was_meant() {
    let text = SMALLEST
        .replace("  port: 8000\n  runtime", "  port: 8000\n  replica: 3\n  runtime")
        .replace("            path: /healthz", "            paht: /healthz")
        .replace("server: uvicorn", "server: uvicron");
    let report = lint(&[("a.yaml", &text)]).unwrap();
    let errors = errors(&report);
    let told: Vec<String> = errors
        .iter()
        .map(|told| {
            let line = text.lines().nth(told.line as usize - 1).unwrap();
            let at: String = line.chars().skip(told.column as usize - 1).take(8).collect();
            format!(
                "{} `{at}` {}",
                told.field,
                told.fix.as_deref().unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "spec.replica `replica:` did you mean replicas?",
            "spec.runtime.server `server: ` did you mean uvicorn?",
            "spec.template.spec.containers[0].readinessProbe.httpGet.paht `paht: /h` did you mean path?",
        ]
    );
}

#[test]
fn what_the_operator_would_refuse_is_said_once_with_its_fix() {
    let text = SMALLEST.replace("port: 8000\n  runtime", "port: 0\n  runtime");
    let report = lint(&[("a.yaml", &text)]).unwrap();
    let errors = errors(&report);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(
        (errors[0].rule.as_str(), errors[0].field.as_str()),
        ("spec", "spec.port")
    );
    assert_eq!(errors[0].message, "0 is out of range: write 1 to 65535");
    // A rule of the schema in CEL.
    let text = SMALLEST.replace("type: availability", "type: latency");
    let report = lint(&[("a.yaml", &text)]).unwrap();
    assert!(
        !errors_of(&report, "spec.slos[0]").is_empty(),
        "{:?}",
        found(&report)
    );
}

#[test]
fn a_surge_is_a_number_or_a_percentage_as_the_api_server_has_it() {
    let with = |surge: &str| {
        let text = SMALLEST.replace(
            "port: 8000\n  runtime",
            &format!("maxSurge: {surge}\n  port: 8000\n  runtime"),
        );
        assert_ne!(text, SMALLEST);
        lint(&[("a.yaml", &text)]).unwrap()
    };
    for good in ["1", "12", "30%", "'100%'"] {
        let report = with(good);
        assert!(errors(&report).is_empty(), "{good}: {:?}", errors(&report));
    }
    for bad in ["0", "-1", "'0%'", "'101%'", "'1'"] {
        let report = with(bad);
        let errors = errors_of(&report, "spec.maxSurge");
        assert!(!errors.is_empty(), "{bad}: {:?}", found(&report));
        assert!(
            !errors[0].message.contains("cannot be evaluated"),
            "{bad}: {errors:?}"
        );
    }
}

fn errors_of<'a>(report: &'a Report, field: &str) -> Vec<&'a Told> {
    let own = |told: &&Told| told.severity == Severity::Error && told.field.starts_with(field);
    report.findings.iter().filter(own).collect()
}

#[test]
fn a_finding_points_at_the_line_that_is_wrong() {
    let text = PRODUCTION
        .replace(
            "registry.example.com/checkout@",
            "registry.example.com/checkout:latest # ",
        )
        .replace(
            "- name: PAYMENTS_API_KEY\n",
            "- name: OTHER_API_KEY\n          value: abc\n        - name: PAYMENTS_API_KEY\n",
        );
    let report = lint(&[("a.yaml", &text)]).unwrap();
    let line_of = |needle: &str| text.lines().position(|line| line.contains(needle)).unwrap() + 1;
    assert_eq!(
        found(&report),
        [
            format!(
                "{}:9 image-names-one spec.template.spec.containers[0].image",
                line_of(":latest")
            ),
            format!(
                "{}:9 image-by-digest spec.template.spec.containers[0].image",
                line_of(":latest")
            ),
            format!(
                "{}:11 no-literal-secrets spec.template.spec.containers[0].env[2].value",
                line_of("value: abc")
            ),
        ]
    );
    assert_eq!(report.services[0].grade, Grade::D);
}

#[test]
fn an_annotation_ignores_and_is_told_and_a_misspelt_one_too() {
    let text = SMALLEST.replace(
        "  name: checkout\n",
        "  name: checkout\n  annotations:\n    molt.dev/lint-ignore: replicas, repliacs\n",
    );
    let report = lint(&[("a.yaml", &text)]).unwrap();
    assert!(!rules(&report).contains(&"replicas"));
    assert_eq!(report.ignored.len(), 1);
    assert_eq!(report.ignored[0].rule, "replicas");
    let wrong = report
        .findings
        .iter()
        .find(|told| told.rule == "lint-ignore")
        .unwrap();
    assert!(
        wrong.message.contains("\"repliacs\" is no rule"),
        "{}",
        wrong.message
    );
    let said = print(&report, false, Style::PLAIN);
    assert!(
        said.contains(": ignored[replicas]: PythonService/checkout: "),
        "{said}"
    );
}

#[test]
fn the_deployment_of_a_workload_ref_is_judged_where_it_is() {
    let service = "apiVersion: molt.dev/v1alpha1\nkind: PythonService\nmetadata: {name: shop}\nspec:\n  port: 8000\n  runtime: {server: gunicorn}\n  workloadRef: {apiVersion: apps/v1, kind: Deployment, name: shop}\n  traffic: {none: {}}\n  slos: [{name: a, objective: \"99\", sli: {preset: otel, type: availability}}]\n";
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: shop}\nspec:\n  replicas: 3\n  template:\n    spec:\n      containers:\n      - name: app\n        image: shop:latest\n";
    let report = lint(&[("service.yaml", service), ("deployment.yaml", deployment)]).unwrap();
    let image = report
        .findings
        .iter()
        .find(|told| told.rule == "image-names-one")
        .unwrap();
    assert_eq!(
        (image.file.as_str(), image.line, image.column),
        ("deployment.yaml", 10, 9)
    );
    assert_eq!(image.object, "PythonService/shop");
    assert!(
        !rules(&report).contains(&"replicas"),
        "those of the Deployment count"
    );
    let alone = lint(&[("service.yaml", service)]).unwrap();
    assert!(!rules(&alone).contains(&"image-names-one"));
    assert!(
        alone.notes[0].contains("Deployment/shop, which is not in these files"),
        "{:?}",
        alone.notes
    );
}

#[test]
fn other_objects_of_the_files_count() {
    let others = "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: a}\nspec: {minReplicas: 2, maxReplicas: 9, scaleTargetRef: {apiVersion: molt.dev/v1alpha1, kind: PythonService, name: checkout}}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: all}\nspec: {podSelector: {}}\n---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: other}\nspec: {selector: {matchLabels: {app: other}}}\n";
    let alone = lint(&[("a.yaml", SMALLEST)]).unwrap();
    let both = lint(&[("a.yaml", SMALLEST), ("b.yaml", others)]).unwrap();
    for (rule, alone_too, both_too) in [
        ("replicas", true, false),
        ("network-policy", true, false),
        ("disruption-budget", true, true),
    ] {
        assert_eq!(rules(&alone).contains(&rule), alone_too, "{rule}");
        assert_eq!(rules(&both).contains(&rule), both_too, "{rule}");
    }
}

#[test]
fn what_can_not_be_read_is_told_with_its_place() {
    for (text, expected) in [
        ("a: [", "a.yaml: is no YAML: "),
        (
            "kind: ConfigMap\napiVersion: v1",
            "there is no PythonService in these files",
        ),
        ("a: 1", "a.yaml:1:1: has no apiVersion and kind"),
    ] {
        let why = lint(&[("a.yaml", text)]).unwrap_err();
        assert!(why.starts_with(expected), "{why}");
    }
    let unknown = "apiVersion: molt.dev/v1\nkind: PythonService\nmetadata: {name: a}";
    let report = lint(&[("a.yaml", unknown)]).unwrap();
    assert_eq!(found(&report), ["1:1 schema apiVersion"]);
    // Whatever else is there, nothing panics.
    for text in [
        "apiVersion: molt.dev/v1alpha1\nkind: PythonService\nspec: 3",
        "apiVersion: molt.dev/v1alpha1\nkind: PythonService\nmetadata: 3\nspec: {template: {spec: {containers: [3, {env: 1}]}}}",
        "apiVersion: molt.dev/v1alpha1\nkind: RolloutAction\nmetadata: {name: a}\nspec: {}",
    ] {
        assert!(!errors(&lint(&[("a.yaml", text)]).unwrap()).is_empty());
    }
}

#[test]
fn lists_and_anchors_keep_their_places() {
    let item = json!({"apiVersion": "molt.dev/v1alpha1", "kind": "PythonService", "metadata": {"name": "a"}, "spec": {}});
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {item}\n");
    let report = lint(&[("a.yaml", &list)]).unwrap();
    assert!(
        errors(&report).iter().all(|told| told.line == 4),
        "{:?}",
        found(&report)
    );
    let anchored =
        "apiVersion: molt.dev/v1alpha1\nkind: PythonService\nmetadata: &m {name: a}\nspec:\n  bad: *m\n";
    let report = lint(&[("a.yaml", anchored)]).unwrap();
    assert!(
        found(&report).contains(&"5:3 schema spec.bad".to_owned()),
        "{:?}",
        found(&report)
    );
}

#[test]
fn the_exit_code_follows_the_severity() {
    let code = |words: &[&str]| {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            args: LintArgs,
        }
        let words = std::iter::once("lint").chain(words.iter().copied());
        run(&<Alone as clap::Parser>::parse_from(words).args).unwrap()
    };
    let smallest = "deploy/samples/smallest.yaml";
    assert_eq!(code(&[smallest]), ExitCode::SUCCESS);
    assert_eq!(code(&[smallest, "--fail-on", "warning"]), ExitCode::from(1));
    assert_eq!(
        code(&[smallest, "--fail-on", "never", "-o", "json"]),
        ExitCode::SUCCESS
    );
    assert_eq!(code(&["/nowhere.yaml"]), ExitCode::from(2));
    assert_eq!(code(&["Cargo.toml"]), ExitCode::from(2));
    assert_eq!(code(&["--explain"]), ExitCode::SUCCESS);
    assert_eq!(
        code(&["--explain", "deploy/samples/production.yaml", "--fail-on", "info"]),
        ExitCode::SUCCESS
    );
}

#[test]
fn what_the_pods_get_for_their_server_is_shown_with_the_reason() {
    let path = "deploy/samples/smallest.yaml";
    let objects = source::objects(path, &std::fs::read_to_string(path).unwrap()).unwrap();
    let report = check(&objects).unwrap();
    let explained = print(&report, true, Style::PLAIN);
    assert!(
        explained.contains("added by Molt: spec.template.spec.terminationGracePeriodSeconds: 45\n    why: "),
        "{explained}"
    );
    assert!(!print(&report, false, Style::PLAIN).contains("added by Molt"));
}

#[test]
fn a_notification_policy_is_looked_at_by_its_schema_and_by_the_operators_rules() {
    let policy = |sink: &str| {
        format!(
            "apiVersion: molt.dev/v1alpha1\nkind: NotificationPolicy\nmetadata: {{name: oncall}}\nspec:\n  sinks:\n  - name: chat\n{sink}"
        )
    };
    let good = policy("    slack: {urlFrom: {name: hooks, key: slack}}\n    template: \"{{title}}\"\n");
    assert_eq!(found(&lint(&[("p.yaml", &good)]).unwrap()), [""; 0]);
    let unknown = policy("    slack: {urlFrom: {name: hooks, key: slack}}\n    template: \"{{nme}}\"\n");
    let report = lint(&[("p.yaml", &unknown)]).unwrap();
    assert_eq!(rules(&report), ["spec"]);
    assert!(
        report.findings[0].field.ends_with(".template"),
        "{:?}",
        found(&report)
    );
    let misspelt = policy("    slack: {urlFrom: {name: hooks}}\n");
    assert!(rules(&lint(&[("p.yaml", &misspelt)]).unwrap()).contains(&"schema"));
}
