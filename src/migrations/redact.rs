//! Passwords in texts that are kept. Pure.

/// Takes the passwords out of URLs, and what follows `password=`.
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || "\"'<>".contains(c))
            .unwrap_or(after.len());
        let authority = &after[..after[..end].rfind('@').map_or(0, |at| at + 1)];
        match authority.split_once(':') {
            Some((user, _)) => {
                out.push_str(user);
                out.push_str(":***@");
            }
            None => out.push_str(authority),
        }
        rest = &after[authority.len()..];
    }
    out.push_str(rest);
    after_word(&out, "password=")
}

fn after_word(text: &str, word: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.to_ascii_lowercase().find(word) {
        let (before, after) = rest.split_at(at + word.len());
        out.push_str(before);
        out.push_str("***");
        rest = &after[after
            .find(|c: char| c.is_whitespace() || "&;,".contains(c))
            .unwrap_or(after.len())..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_go_and_the_rest_stays() {
        for (text, expected) in [
            ("nothing", "nothing"),
            (
                "postgresql://shop:p@ss@db:5432/shop failed",
                "postgresql://shop:***@db:5432/shop failed",
            ),
            ("a://u:1@h and b://v:2@i", "a://u:***@h and b://v:***@i"),
            ("http://host:80/path", "http://host:80/path"),
            ("a://u@h", "a://u@h"),
            (
                "host=db password=geheim dbname=x",
                "host=db password=*** dbname=x",
            ),
            ("PASSWORD=ä;x", "PASSWORD=***;x"),
            ("://", "://"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }
}
