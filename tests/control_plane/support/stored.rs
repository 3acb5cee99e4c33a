//! Objects as another version may have stored them: changed in etcd, past every check.

use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::cluster::etcd_address;

/// Changes a stored PythonService. What watches it sees the change.
pub fn change(namespace: &str, name: &str, change: impl FnOnce(&mut Value)) {
    let key = BASE64.encode(format!("/registry/molt.dev/pythonservices/{namespace}/{name}"));
    let answer = ask("range", &json!({ "key": key }));
    let stored = answer["kvs"][0]["value"].as_str().expect("it is stored");
    let mut object: Value = serde_json::from_slice(&BASE64.decode(stored).unwrap()).unwrap();
    change(&mut object);
    let value = BASE64.encode(object.to_string());
    ask("put", &json!({"key": key, "value": value}));
}

/// etcd's API as JSON.
fn ask(what: &str, body: &Value) -> Value {
    let mut curl = Command::new("curl")
        .args(["-sSf", "--data-binary", "@-"])
        .arg(format!("{}/v3/kv/{what}", etcd_address()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl is there");
    let mut input = curl.stdin.take().unwrap();
    input.write_all(body.to_string().as_bytes()).unwrap();
    drop(input);
    let output = curl.wait_with_output().unwrap();
    assert!(output.status.success(), "etcd answers");
    serde_json::from_slice(&output.stdout).unwrap()
}
