//! Names of tables and columns, and when two of them are known to be one.

use std::fmt;

use sqlparser::ast::{
    Delete, Expr, FromTable, Ident, IndexColumn, ObjectName, ObjectNamePart, TableFactor, TableWithJoins,
};
use sqlparser::tokenizer::Token;

/// The tables in which tools keep what is applied.
pub const OWN_TABLES: [&str; 2] = ["alembic_version", "django_migrations"];

/// A full name. Two mean the same table for certain only if they are equal: where one without a schema is, the search
/// path decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(Vec<String>);

impl Name {
    pub fn of(name: &ObjectName) -> Self {
        let part = |part: &ObjectNamePart| part.as_ident().map_or_else(|| part.to_string(), column);
        Self(name.0.iter().map(part).collect())
    }

    /// Without the schema.
    pub fn table(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    pub fn is_qualified(&self) -> bool {
        self.0.len() > 1
    }

    /// In the schema of another, unless it names one itself.
    pub fn beside(self, other: &Self) -> Self {
        if self.is_qualified() {
            return self;
        }
        let mut parts = other.0.clone();
        parts.pop();
        parts.extend(self.0);
        Self(parts)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// Only what is quoted tells large letters from small ones. Once this is done, names are compared as they are.
pub fn folded(tokens: Vec<Token>) -> Vec<Token> {
    let fold = |token| match token {
        Token::Word(mut word) if word.quote_style.is_none() => {
            word.value.make_ascii_lowercase();
            Token::Word(word)
        }
        other => other,
    };
    tokens.into_iter().map(fold).collect()
}

/// The name of a column.
pub fn column(ident: &Ident) -> String {
    ident.value.clone()
}

/// The names of columns.
pub fn columns(idents: &[Ident]) -> Vec<String> {
    idents.iter().map(column).collect()
}

/// The column of an index, where it is a plain one.
pub fn indexed(indexed: &IndexColumn) -> Option<String> {
    match &indexed.column.expr {
        Expr::Identifier(ident) => Some(column(ident)),
        _ => None,
    }
}

/// The one table that rows are deleted from.
pub fn deleted_from(delete: &Delete) -> Option<Name> {
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    match from.as_slice() {
        [table] if delete.tables.is_empty() => only(table),
        _ => None,
    }
}

/// The table, where nothing is joined to it.
pub fn only(table: &TableWithJoins) -> Option<Name> {
    match &table.relation {
        TableFactor::Table { name, .. } if table.joins.is_empty() => Some(Name::of(name)),
        _ => None,
    }
}
