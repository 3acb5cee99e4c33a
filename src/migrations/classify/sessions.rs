//! Statements of a session and its transactions, which change nothing of what revisions see.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

/// All that may follow the word that begins or ends a transaction.
const OF_TRANSACTIONS: [&str; 26] = [
    "transaction",
    "tran",
    "work",
    "isolation",
    "level",
    "serializable",
    "repeatable",
    "read",
    "committed",
    "uncommitted",
    "write",
    "only",
    "not",
    "deferrable",
    "deferred",
    "immediate",
    "exclusive",
    "concurrent",
    "with",
    "consistent",
    "snapshot",
    "and",
    "no",
    "chain",
    "release",
    ",",
];
/// Settings by which a name without its schema is looked up.
const OF_PATHS: [&str; 5] = ["search_path", "schema", "role", "authorization", "all"];
/// What outlasts the session.
const OF_SERVERS: [&str; 5] = ["global", "persist", "persist_only", "password", "default"];
/// What some databases not only analyze.
const ANALYZED: [&str; 8] = [
    "select", "insert", "update", "delete", "replace", "merge", "with", "format",
];

/// What a statement does to the names that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Nothing.
    Stays,
    /// Those without a schema may mean other tables.
    Moves,
    /// A transaction ends, and what was set for it.
    Ends,
    /// What came before may not have been.
    Undone,
}

/// What a statement is to the session, if it is nothing else; by its text on one line.
pub fn session(text: &str) -> Option<Session> {
    let text = text.to_lowercase().replace('=', " ").replace(',', " , ");
    let words: Vec<&str> = text
        .split_whitespace()
        .map(|word| word.trim_matches('"'))
        .collect();
    let (first, rest) = words.split_first()?;
    let plain = |words: &[&str]| words.iter().all(|word| OF_TRANSACTIONS.contains(word));
    let setting = rest.iter().find(|word| !matches!(**word, "local" | "session"));
    let moves = setting.is_some_and(|what| OF_PATHS.contains(what));
    Some(match *first {
        "begin" | "start" if plain(rest) => Session::Stays,
        "commit" | "end" if plain(rest) => Session::Ends,
        "rollback" => {
            let to = rest.iter().position(|word| *word == "to").unwrap_or(rest.len());
            if !plain(&rest[..to]) {
                return None;
            }
            Session::Undone
        }
        "set" if rest.split(|word| *word == ",").any(outlasts) => return None,
        "set" | "reset" if moves => Session::Moves,
        "analyze" if rest.first().is_some_and(|what| ANALYZED.contains(what)) => return None,
        "savepoint" | "release" | "set" | "reset" | "show" | "comment" | "analyze" | "vacuum" | "pragma" => {
            Session::Stays
        }
        _ => return None,
    })
}

/// Whether a setting is one of the server.
fn outlasts(setting: &[&str]) -> bool {
    setting.first().is_some_and(|what| {
        OF_SERVERS.contains(what) || what.starts_with("@@global") || what.starts_with("@@persist")
    })
}

/// Whether a statement may have another in it, in parentheses, that changes data: `WITH x AS (DELETE …)`.
pub fn changes_on_its_way(tokens: &[Token]) -> bool {
    let mut last: Option<&Token> = None;
    for token in tokens
        .iter()
        .filter(|token| !matches!(token, Token::Whitespace(_)))
    {
        let changes = matches!(token, Token::Word(word) if matches!(
            word.keyword,
            Keyword::INSERT | Keyword::UPDATE | Keyword::DELETE | Keyword::MERGE
        ) && word.quote_style.is_none());
        if changes && matches!(last, Some(Token::LParen | Token::RParen)) {
            return true;
        }
        last = Some(token);
    }
    false
}
