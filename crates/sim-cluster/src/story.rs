//! What is written into timelines of requests.

use molt_sim_api::Call;
use serde_json::Value;

/// The last parts of a path. Events have the machine's time in their names.
fn place(call: &Call) -> String {
    if call.path.contains("/events") {
        return "events".to_owned();
    }
    let parts: Vec<&str> = call
        .path
        .split('/')
        .skip_while(|p| *p != "namespaces")
        .skip(2)
        .collect();
    parts.join("/")
}

/// A request in a few words.
pub fn request(call: &Call) -> String {
    format!("{} {}", call.method, place(call))
}

/// A write with what it says.
pub fn write(call: &Call) -> String {
    let said = if call.path.contains("/events") {
        call.body["reason"].as_str().unwrap_or_default().to_owned()
    } else if call.path.ends_with("/status") {
        status(&call.body)
    } else {
        spec(&call.body)
    };
    format!("{} {said}", request(call))
}

fn status(body: &Value) -> String {
    // A JSON patch that adds the status, or a merge patch.
    let status = body
        .as_array()
        .and_then(|ops| ops.iter().find(|op| op["path"] == "/status"))
        .map_or(&body["status"], |op| &op["value"]);
    let attempt = &status["state"]["attempt"];
    let text = |v: &Value| v.as_str().unwrap_or("-").to_owned();
    if attempt.is_object() {
        return format!(
            "{} {}#{} {} step {} weight {}",
            text(&status["phase"]),
            text(&attempt["revision"]),
            attempt["number"],
            text(&attempt["stage"]["name"]),
            attempt["step"],
            attempt["weight"],
        );
    }
    let short = [&status["phase"], &status["outcome"], &status["state"]];
    short.iter().find_map(|v| v.as_str()).unwrap_or("-").to_owned()
}

fn spec(body: &Value) -> String {
    let mut said = Vec::new();
    let spec = &body["spec"];
    if let Some(replicas) = spec["replicas"].as_u64() {
        said.push(format!("replicas {replicas}"));
    }
    if let Some(revision) = spec["selector"]["molt.dev/revision"].as_str() {
        said.push(format!("selects {revision}"));
    }
    for backend in spec["rules"][0]["backendRefs"].as_array().into_iter().flatten() {
        said.push(format!(
            "{}={}",
            backend["name"].as_str().unwrap_or("-"),
            backend["weight"]
        ));
    }
    for op in body.as_array().into_iter().flatten() {
        if let Some(path) = op["path"].as_str().filter(|p| p.ends_with("/weight")) {
            said.push(format!("{path}={}", op["value"]));
        }
    }
    if let Some(finalizers) = body["metadata"]["finalizers"].as_array() {
        said.push(format!("finalizers {}", finalizers.len()));
    }
    said.join(" ")
}
