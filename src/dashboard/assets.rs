//! What a browser loads: in the binary, from this server alone.

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::identity::{digest, hex};

/// The page; every address of the dashboard answers with it, and the script looks at the address.
const PAGE: &[u8] = include_bytes!("assets/index.html");

/// A file by its name, with its kind.
fn file(name: &str) -> Option<(&'static [u8], &'static str)> {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    Some(match name {
        "app.css" => (include_bytes!("assets/app.css"), "text/css; charset=utf-8"),
        "app.js" => (include_bytes!("assets/app.js"), SCRIPT),
        "dom.js" => (include_bytes!("assets/dom.js"), SCRIPT),
        "api.js" => (include_bytes!("assets/api.js"), SCRIPT),
        "charts.js" => (include_bytes!("assets/charts.js"), SCRIPT),
        "fleet.js" => (include_bytes!("assets/fleet.js"), SCRIPT),
        "service.js" => (include_bytes!("assets/service.js"), SCRIPT),
        "actions.js" => (include_bytes!("assets/actions.js"), SCRIPT),
        "records.js" => (include_bytes!("assets/records.js"), SCRIPT),
        "icon.svg" => (include_bytes!("assets/icon.svg"), "image/svg+xml"),
        _ => return None,
    })
}

/// The page.
pub async fn page(headers: HeaderMap) -> Response {
    answer(&headers, PAGE, "text/html; charset=utf-8")
}

/// One of its files.
pub async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match file(&name) {
        Some((bytes, kind)) => answer(&headers, bytes, kind),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// An address that ends in `/` goes to the one without, query and all; the page tells that there is no other.
pub async fn elsewhere(uri: Uri) -> Response {
    let plain = uri.path().trim_matches(['/', '\\']);
    if uri.path().ends_with('/') {
        // Begins with one `/` and no more: more of them would name another server.
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        return Redirect::permanent(&format!("/{plain}{query}")).into_response();
    }
    (StatusCode::NOT_FOUND, page(HeaderMap::new()).await).into_response()
}

/// Kept by the browser, and asked for again: another version of the server has other files.
fn answer(headers: &HeaderMap, bytes: &'static [u8], kind: &'static str) -> Response {
    let tag = format!("\"{}\"", hex(&digest(bytes)[..8]));
    let about = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::ETAG, tag.clone()),
    ];
    let same = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| *known == *tag);
    if same {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> &'static str {
        std::str::from_utf8(file(name).unwrap().0).unwrap()
    }

    #[test]
    fn the_page_asks_for_what_there_is_and_nothing_from_elsewhere() {
        let page = std::str::from_utf8(PAGE).unwrap();
        let named: Vec<&str> = page.split("/assets/").skip(1).collect();
        assert!(named.len() >= 3, "{named:?}");
        for rest in named {
            let name = rest.split('"').next().unwrap();
            assert!(file(name).is_some(), "{name}");
        }
        for script in [
            "app.js",
            "dom.js",
            "api.js",
            "charts.js",
            "fleet.js",
            "service.js",
            "actions.js",
            "records.js",
        ] {
            for import in text(script).split("from \"./").skip(1) {
                let name = import.split('"').next().unwrap();
                assert!(file(name).is_some(), "{script} imports {name}");
            }
        }
        assert!(
            !page.contains("http") && !page.contains("style=") && !page.contains(" on"),
            "strict policy"
        );
    }

    #[test]
    fn nothing_from_the_api_can_become_markup() {
        for script in [
            "app.js",
            "dom.js",
            "api.js",
            "charts.js",
            "fleet.js",
            "service.js",
            "actions.js",
            "records.js",
        ] {
            for sink in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "setAttribute(\"style\"",
            ] {
                assert!(!text(script).contains(sink), "{script} has {sink}");
            }
        }
    }

    #[test]
    fn it_is_small() {
        let names = [
            "app.css",
            "app.js",
            "dom.js",
            "api.js",
            "charts.js",
            "fleet.js",
            "service.js",
            "actions.js",
            "records.js",
            "icon.svg",
        ];
        let bytes: usize = names.iter().map(|name| file(name).unwrap().0.len()).sum();
        assert!(bytes < 120_000, "{bytes} bytes");
    }
}
