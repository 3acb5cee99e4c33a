//! Pages, headings and files that the documentation leads to are there, and each page is part of the site.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every page of documentation, from the repository's root.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("ARCHITECTURE.md")];
    for directory in ["docs", "docs/adr"] {
        let files = fs::read_dir(root().join(directory)).expect("it is there");
        let files = files.map(|file| file.expect("it can be read").path());
        pages.extend(files.filter(|path| path.extension().is_some_and(|e| e == "md")));
    }
    pages
}

/// The page without its blocks of code.
fn prose(page: &Path) -> String {
    let text = fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
    let mut within = false;
    let kept = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        within ^= fence;
        !within && !fence
    });
    kept.collect::<Vec<_>>().join("\n")
}

/// What a link to a part of the page can name: headings, as GitHub and mdBook name them, and ids.
fn anchors(page: &Path) -> BTreeSet<String> {
    let text = prose(page);
    let ids = Regex::new(r#"<a id="([^"]+)">"#).expect("it is a pattern");
    let mut anchors: BTreeSet<String> = ids
        .captures_iter(&text)
        .map(|found| found[1].to_owned())
        .collect();
    for heading in text.lines().filter_map(|line| line.strip_prefix('#')) {
        let slug = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = slug.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        anchors.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    anchors
}

#[test]
fn links_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").expect("it is a pattern");
    let code = Regex::new("`[^`\n]*`").expect("it is a pattern");
    let mut broken = Vec::new();
    let mut seen = 0;
    for page in pages() {
        // What is between backticks is no link.
        for found in link.captures_iter(&code.replace_all(&prose(&page), "")) {
            let target = &found[1];
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match path {
                "" => page.clone(),
                path => page.parent().expect("it is in a directory").join(path),
            };
            let is_page = file.extension().is_some_and(|e| e == "md");
            if !file.exists() || (is_page && !anchor.is_empty() && !anchors(&file).contains(anchor)) {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(seen > 100, "links are found");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn each_page_is_part_of_the_site() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).expect("it is there");
    let docs = root().join("docs");
    let missing: Vec<_> = pages()
        .into_iter()
        .filter_map(|page| page.strip_prefix(&docs).ok().map(Path::to_path_buf))
        .filter(|page| {
            page.as_os_str() != "SUMMARY.md" && !summary.contains(&format!("({})", page.display()))
        })
        .collect();
    assert!(missing.is_empty(), "add them to docs/SUMMARY.md: {missing:?}");
}
