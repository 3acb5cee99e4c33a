//! What the SQL of a migration does to revisions that are older than it. Pure.
//!
//! What they don't notice expands; what takes something from them, or refuses what they write, contracts. The rest is
//! unknown rather than harmless: a statement that can't be read, a `DO`, data that is changed.

use std::collections::{BTreeMap, BTreeSet};

use molt_core::migration::{MAX_TEXT, MigrationKind};
use sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableOperation, AlterTypeOperation, AssignmentTarget, ColumnDef,
    ColumnOption, CreateIndex, Expr, IndexColumn, ObjectName, ObjectType, Statement, TableConstraint,
    TableFactor, TableObject, Update,
};
use sqlparser::dialect::{Dialect, GenericDialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer, Whitespace};

/// The tables in which tools keep what is applied.
const OWN_TABLES: [&str; 2] = ["alembic_version", "django_migrations"];
/// Statements that change nothing of what revisions see.
const HARMLESS: [&str; 14] = [
    "BEGIN",
    "START",
    "COMMIT",
    "END",
    "ROLLBACK",
    "SAVEPOINT",
    "RELEASE",
    "SET",
    "RESET",
    "SHOW",
    "COMMENT",
    "ANALYZE",
    "VACUUM",
    "PRAGMA",
];

/// What a migration does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// In one word.
    pub kind: MigrationKind,
    /// By which statement.
    pub why: String,
    /// Locks that keep users waiting, though they break nothing.
    pub notes: Vec<String>,
}

/// What one operation does, and in which words.
enum Effect {
    /// Nothing that anybody sees.
    None,
    Expand(String),
    Contract(String),
    /// Both at once.
    Mixed(String),
    Unknown(String),
}

/// What a migration does, by its SQL in a database's dialect.
pub fn classify(sql: &str, dialect: &str) -> Class {
    let dialect: Box<dyn Dialect> = match dialect {
        "postgresql" => Box::new(PostgreSqlDialect {}),
        "mysql" | "mariadb" => Box::new(MySqlDialect {}),
        "sqlite" => Box::new(SQLiteDialect {}),
        _ => Box::new(GenericDialect {}),
    };
    let mut judge = Judge::default();
    let tokens = match Tokenizer::new(&*dialect, sql).tokenize() {
        Ok(tokens) => tokens,
        Err(error) => {
            return Class {
                kind: MigrationKind::Unknown,
                why: cut(&format!("its SQL can't be read: {error}")),
                notes: Vec::new(),
            };
        }
    };
    for raw in statements(tokens) {
        judge.statement(raw, &*dialect);
    }
    judge.class()
}

/// The statements of a script; comments go.
fn statements(tokens: Vec<Token>) -> Vec<Vec<Token>> {
    let mut all = vec![Vec::new()];
    for token in tokens {
        match token {
            Token::SemiColon => all.push(Vec::new()),
            Token::Whitespace(Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_)) => {
                if let Some(last) = all.last_mut() {
                    last.push(Token::Whitespace(Whitespace::Newline));
                }
            }
            other => {
                if let Some(last) = all.last_mut() {
                    last.push(other);
                }
            }
        }
    }
    all.retain(|tokens| tokens.iter().any(|t| !matches!(t, Token::Whitespace(_))));
    all
}

/// A column that a migration adds.
#[derive(Clone, Copy)]
struct Added {
    /// Who inserts a row may leave it out.
    optional: bool,
    /// Whoever leaves it out writes the same value as all others who do.
    alike: bool,
}

/// What was seen so far of one migration. Tables go by the name that they are written by, with their schema if it is there:
/// nobody knows here which schema one without stands for.
#[derive(Default)]
struct Judge {
    /// Tables that it makes: nobody older knows them.
    made: BTreeSet<String>,
    /// Columns that it adds to others, by table.
    added: BTreeMap<(String, String), Added>,
    expands: Option<String>,
    contracts: Option<String>,
    mixed: Option<String>,
    unknown: Option<String>,
    notes: Vec<String>,
}

impl Judge {
    fn class(self) -> Class {
        let (kind, why) = match (self.unknown, self.mixed, self.contracts, self.expands) {
            (Some(why), ..) => (MigrationKind::Unknown, why),
            (None, Some(why), ..) => (MigrationKind::Mixed, why),
            (None, None, Some(why), Some(other)) => (MigrationKind::Mixed, format!("{other}; {why}")),
            (None, None, Some(why), None) => (MigrationKind::Contract, why),
            (None, None, None, why) => (MigrationKind::Expand, why.unwrap_or_default()),
        };
        Class {
            kind,
            why: cut(&why),
            notes: self.notes,
        }
    }

    fn statement(&mut self, tokens: Vec<Token>, dialect: &dyn Dialect) {
        let text: String = tokens.iter().map(ToString::to_string).collect();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let first = text.split(' ').next().unwrap_or_default().to_uppercase();
        if HARMLESS.contains(&first.as_str()) {
            if text.to_lowercase().contains("search_path") {
                // From here on the same names may be those of other tables.
                self.made.clear();
                self.added.clear();
            }
            return;
        }
        let effects = match Parser::new(dialect).with_tokens(tokens).parse_statement() {
            Ok(statement) => self.effects(&statement),
            Err(_) => vec![Effect::Unknown(format!("`{}` is not understood", start(&text)))],
        };
        for effect in effects {
            let (slot, why) = match effect {
                Effect::None => continue,
                Effect::Expand(why) => (&mut self.expands, why),
                Effect::Contract(why) => (&mut self.contracts, why),
                Effect::Mixed(why) => (&mut self.mixed, why),
                Effect::Unknown(why) => (&mut self.unknown, why),
            };
            slot.get_or_insert(why);
        }
    }

    fn effects(&mut self, statement: &Statement) -> Vec<Effect> {
        let text = statement.to_string();
        let unknown = || Effect::Unknown(format!("`{}` may change what older revisions see", start(&text)));
        vec![match statement {
            Statement::CreateTable(table) => {
                let name = name(&table.name);
                if is_own(&name) {
                    return Vec::new();
                }
                // It may have been there, with rows and with users.
                if !table.if_not_exists {
                    self.made.insert(name.clone());
                }
                Effect::Expand(format!("creates table {name}"))
            }
            Statement::AlterTable(AlterTable {
                name: table,
                operations,
                ..
            }) => {
                let table = name(table);
                return operations
                    .iter()
                    .map(|operation| self.alter(&table, operation))
                    .collect();
            }
            Statement::CreateIndex(index) => self.index(index),
            Statement::Drop {
                object_type, names, ..
            } => {
                let names: Vec<String> = names.iter().map(name).collect();
                if *object_type == ObjectType::Table {
                    if names.iter().all(|n| is_own(n)) {
                        return Vec::new();
                    }
                    self.made.retain(|made| !names.contains(made));
                }
                Effect::Contract(format!(
                    "drops {} {}",
                    object_type.to_string().to_lowercase(),
                    names.join(", ")
                ))
            }
            Statement::CreateView(view) if !view.or_replace => {
                Effect::Expand(format!("creates view {}", name(&view.name)))
            }
            Statement::CreateFunction(function) if !function.or_replace => {
                Effect::Expand(format!("creates function {}", name(&function.name)))
            }
            Statement::CreateType { .. }
            | Statement::CreateDomain(_)
            | Statement::CreateExtension(_)
            | Statement::CreateSchema { .. }
            | Statement::CreateSequence { .. }
            | Statement::CreateCollation(_)
            | Statement::CreateRole(_)
            | Statement::Grant(_) => Effect::Expand(start(&text).to_lowercase()),
            Statement::AlterType(alter) => match &alter.operation {
                AlterTypeOperation::AddValue(_) => Effect::Expand("adds a value to a type".to_owned()),
                _ => Effect::Mixed("renames a type or a value of it".to_owned()),
            },
            Statement::RenameTable(_) => Effect::Mixed("renames a table".to_owned()),
            Statement::DropFunction(_)
            | Statement::DropTrigger(_)
            | Statement::DropDomain(_)
            | Statement::DropExtension(_)
            | Statement::Truncate(_) => Effect::Contract(start(&text).to_lowercase()),
            Statement::Insert(insert) => match &insert.table {
                TableObject::TableName(table) if is_own(&name(table)) => Effect::None,
                TableObject::TableName(table) if self.made.contains(&name(table)) => {
                    Effect::Expand(format!("fills table {}", name(table)))
                }
                _ => unknown(),
            },
            Statement::Update(update) => self.update(update).unwrap_or_else(unknown),
            Statement::Delete(delete) => {
                let from = delete.to_string();
                let own = OWN_TABLES.iter().any(|table| from.contains(table));
                if own { Effect::None } else { unknown() }
            }
            _ => unknown(),
        }]
    }

    fn index(&mut self, index: &CreateIndex) -> Effect {
        let table = name(&index.table_name);
        let is_new = self.made.contains(&table);
        let columns: Option<Vec<String>> = index.columns.iter().map(indexed).collect();
        let on_new = columns.is_some_and(|columns| self.may_be_unique(&table, &columns));
        if !is_new && !index.concurrently {
            self.notes.push(format!(
                "an index of {table} is created without CONCURRENTLY, which keeps writers waiting"
            ));
        }
        if index.unique && !is_new && !on_new {
            return Effect::Contract(format!(
                "a unique index of {table} refuses what older revisions may write"
            ));
        }
        Effect::Expand(format!("creates an index of {table}"))
    }

    /// All are columns that this migration adds, and not all are left alike by those who don't know them.
    fn may_be_unique(&self, table: &str, columns: &[String]) -> bool {
        let added = |column: &String| self.added.get(&(table.to_owned(), column.clone()));
        columns.iter().all(|column| added(column).is_some())
            && columns
                .iter()
                .any(|column| added(column).is_some_and(|added| !added.alike))
    }

    /// Only columns that this migration has added are filled.
    fn update(&self, update: &Update) -> Option<Effect> {
        let TableFactor::Table { name: table, .. } = &update.table.relation else {
            return None;
        };
        let table = name(table);
        if is_own(&table) {
            return Some(Effect::None);
        }
        let filled: Option<Vec<String>> = update
            .assignments
            .iter()
            .map(|assignment| match &assignment.target {
                AssignmentTarget::ColumnName(column) => Some(last(column)),
                AssignmentTarget::Tuple(_) => None,
            })
            .collect();
        let is_new = |column: &String| self.added.contains_key(&(table.clone(), column.clone()));
        let all_new = self.made.contains(&table) || filled?.iter().all(is_new);
        all_new.then(|| Effect::Expand(format!("fills new columns of {table}")))
    }

    fn alter(&mut self, table: &str, operation: &AlterTableOperation) -> Effect {
        use AlterTableOperation as Op;
        if is_own(table) || self.made.contains(table) {
            return Effect::None;
        }
        let key = |column: &str| (table.to_owned(), column.to_owned());
        match operation {
            Op::AddColumn {
                column_def,
                if_not_exists,
                ..
            } => self.add_column(table, column_def, *if_not_exists),
            Op::DropColumn { column_names, .. } => {
                let columns: Vec<String> = column_names.iter().map(|c| fold(&c.value)).collect();
                let own = columns.iter().all(|c| self.added.remove(&key(c)).is_some());
                if own {
                    return Effect::None;
                }
                Effect::Contract(format!("drops column {table}.{}", columns.join(", ")))
            }
            Op::RenameColumn {
                old_column_name,
                new_column_name,
            } => Effect::Mixed(format!(
                "renames column {table}.{} to {}",
                fold(&old_column_name.value),
                fold(&new_column_name.value)
            )),
            Op::RenameTable { .. } | Op::SwapWith { .. } => Effect::Mixed(format!("renames table {table}")),
            Op::AlterColumn { column_name, op } => self.alter_column(table, &fold(&column_name.value), op),
            Op::ChangeColumn { old_name: column, .. } | Op::ModifyColumn { col_name: column, .. } => {
                Effect::Mixed(format!("changes column {table}.{}", fold(&column.value)))
            }
            Op::AddConstraint {
                constraint,
                not_valid,
            } => {
                let is_foreign = matches!(constraint, TableConstraint::ForeignKey(_));
                let new = |columns: Vec<String>| {
                    let added = columns.iter().all(|c| self.added.contains_key(&key(c)));
                    added && (is_foreign || self.may_be_unique(table, &columns))
                };
                if constrained(constraint).is_some_and(new) {
                    return Effect::Expand(format!("constrains new columns of {table}"));
                }
                if !not_valid {
                    self.notes.push(format!(
                        "a constraint of {table} is added without NOT VALID, which keeps users waiting while all rows are read"
                    ));
                }
                Effect::Contract(format!(
                    "a constraint of {table} refuses what older revisions may write"
                ))
            }
            Op::DropConstraint { .. }
            | Op::DropPrimaryKey { .. }
            | Op::DropForeignKey { .. }
            | Op::DropIndex { .. } => Effect::Contract(format!("drops a constraint or index of {table}")),
            Op::ValidateConstraint { .. }
            | Op::RenameConstraint { .. }
            | Op::SetTblProperties { .. }
            | Op::SetOptionsParens { .. }
            | Op::AttachPartition { .. }
            | Op::AddPartitions { .. }
            | Op::Algorithm { .. }
            | Op::Lock { .. } => Effect::None,
            Op::DetachPartition { .. } | Op::DropPartitions { .. } => {
                Effect::Contract(format!("takes a partition from {table}"))
            }
            other => Effect::Unknown(format!(
                "`ALTER TABLE {table} {}` may change what older revisions see",
                start(&other.to_string())
            )),
        }
    }

    fn add_column(&mut self, table: &str, column: &ColumnDef, may_be_there: bool) -> Effect {
        let name = fold(&column.name.value);
        let has = |is: fn(&ColumnOption) -> bool| column.options.iter().any(|o| is(&o.option));
        let serial = column.data_type.to_string().to_lowercase().contains("serial");
        let filled = serial
            || has(|o| {
                matches!(
                    o,
                    ColumnOption::Default(_) | ColumnOption::Generated { .. } | ColumnOption::Identity(_)
                )
            });
        let needed = has(|o| matches!(o, ColumnOption::NotNull | ColumnOption::PrimaryKey(_)));
        let alike = column.options.iter().any(|o| is_alike(&o.option));
        if !may_be_there {
            let added = Added {
                optional: !needed,
                alike,
            };
            self.added.insert((table.to_owned(), name.clone()), added);
        }
        if alike && has(|o| matches!(o, ColumnOption::Unique(_))) {
            return Effect::Contract(format!(
                "column {table}.{name} is unique, and all older revisions write its default"
            ));
        }
        if needed && !filled {
            return Effect::Mixed(format!(
                "column {table}.{name} is NOT NULL without a default, and older revisions don't write it"
            ));
        }
        Effect::Expand(format!("adds column {table}.{name}"))
    }

    fn alter_column(&mut self, table: &str, column: &str, op: &AlterColumnOperation) -> Effect {
        let added = self.added.get(&(table.to_owned(), column.to_owned())).copied();
        match op {
            AlterColumnOperation::SetNotNull => {
                self.notes.push(format!(
                    "SET NOT NULL of {table}.{column} keeps users waiting while all rows are read"
                ));
                Effect::Contract(format!(
                    "{table}.{column} becomes NOT NULL, and older revisions may leave it out"
                ))
            }
            AlterColumnOperation::DropNotNull => Effect::Expand(format!("{table}.{column} may be NULL")),
            AlterColumnOperation::SetDefault { .. } => {
                Effect::Expand(format!("{table}.{column} gets a default"))
            }
            // As Django adds a column that is needed: it is there, and nobody older fills it.
            AlterColumnOperation::DropDefault if added.is_some_and(|added| added.optional) => Effect::None,
            AlterColumnOperation::DropDefault => Effect::Contract(format!(
                "{table}.{column} loses its default, and older revisions may leave it out"
            )),
            _ if added.is_some() => Effect::None,
            AlterColumnOperation::SetDataType { data_type, .. } => {
                self.notes.push(format!(
                    "the type of {table}.{column} changes, which may rewrite the table and keeps users waiting"
                ));
                Effect::Mixed(format!("{table}.{column} becomes {data_type}"))
            }
            AlterColumnOperation::AddGenerated { .. } => {
                Effect::Contract(format!("{table}.{column} becomes generated"))
            }
        }
    }
}

/// Whoever leaves such a column out writes the same value as the next one: a default that is no call, and not NULL.
fn is_alike(option: &ColumnOption) -> bool {
    match option {
        ColumnOption::Default(Expr::Function(_)) => false,
        ColumnOption::Default(value) => !value.to_string().eq_ignore_ascii_case("null"),
        _ => false,
    }
}

/// The columns of a constraint, where they are plain.
fn constrained(constraint: &TableConstraint) -> Option<Vec<String>> {
    match constraint {
        TableConstraint::Unique(unique) => unique.columns.iter().map(indexed).collect(),
        TableConstraint::PrimaryKey(key) => key.columns.iter().map(indexed).collect(),
        TableConstraint::ForeignKey(key) => Some(key.columns.iter().map(|c| fold(&c.value)).collect()),
        _ => None,
    }
}

fn indexed(column: &IndexColumn) -> Option<String> {
    match &column.column.expr {
        Expr::Identifier(ident) => Some(fold(&ident.value)),
        _ => None,
    }
}

/// A name as it is written, with its schema if it has one.
fn name(name: &ObjectName) -> String {
    let parts = name.0.iter().map(|part| match part.as_ident() {
        // Only what is quoted tells large letters from small ones.
        Some(ident) if ident.quote_style.is_some() => ident.value.clone(),
        Some(ident) => fold(&ident.value),
        None => part.to_string(),
    });
    parts.collect::<Vec<_>>().join(".")
}

/// Its last part: that of a column, whatever stands before it.
fn last(name: &ObjectName) -> String {
    let last = name.0.last().and_then(|part| part.as_ident());
    last.map_or_else(|| name.to_string(), |ident| fold(&ident.value))
}

fn fold(name: &str) -> String {
    name.to_lowercase()
}

fn is_own(table: &str) -> bool {
    let last = table.rsplit('.').next().unwrap_or(table);
    OWN_TABLES.contains(&last)
}

/// The begin of a statement, for people.
fn start(text: &str) -> String {
    const LONG: usize = 80;
    let mut cut: String = text.chars().take(LONG).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests;
