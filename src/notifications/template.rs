//! Texts with fields: `{{service}}`. There is nothing else to it: no conditions, no loops, no code.

use super::render::Facts;

/// What a template can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// What happened, in one word.
    Event,
    /// What happened, in words for a headline.
    Title,
    /// Why, in one word.
    Reason,
    /// Why, in a sentence.
    Message,
    /// The namespace.
    Namespace,
    /// The PythonService.
    Service,
    /// The revision; empty where it is about none.
    Revision,
    /// The attempt; empty where it is about none.
    Attempt,
    /// The weight in percent; empty where it says nothing.
    Weight,
    /// When, in UTC.
    At,
    /// The command that shows more.
    Command,
    /// The dashboard's page; empty without a dashboard.
    Url,
    /// Who is called for the service; empty where it is not said.
    Owner,
    /// Where it is written what to do; empty where it is not said.
    Runbook,
    /// How many notifications before this one were left out; empty for none.
    Omitted,
    /// The notification's identity.
    Id,
}

/// Every field, as it is written.
pub const FIELDS: [(&str, Field); 16] = [
    ("event", Field::Event),
    ("title", Field::Title),
    ("reason", Field::Reason),
    ("message", Field::Message),
    ("namespace", Field::Namespace),
    ("service", Field::Service),
    ("revision", Field::Revision),
    ("attempt", Field::Attempt),
    ("weight", Field::Weight),
    ("at", Field::At),
    ("command", Field::Command),
    ("url", Field::Url),
    ("owner", Field::Owner),
    ("runbook", Field::Runbook),
    ("omitted", Field::Omitted),
    ("id", Field::Id),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(Field),
}

/// A text with fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

impl Template {
    /// Reads a text; the error says what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((name, after)) = after.split_once("}}") else {
                return Err("a {{ is not closed: write }} after the field's name".to_owned());
            };
            let name = name.trim();
            let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == name) else {
                let known: Vec<&str> = FIELDS.iter().map(|(known, _)| *known).collect();
                return Err(format!(
                    "{{{{{name}}}}} is no field: write one of {}",
                    known.join(", ")
                ));
            };
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Field(*field));
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// The text with the fields filled in, each made harmless by `escape`; the text itself is its author's own.
    pub fn fill(&self, facts: &Facts<'_>, escape: fn(&str) -> String) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Field(field) => escape(&facts.field(*field)),
        });
        pieces.collect()
    }
}
