//! What the SQL of a migration does to revisions that are older than it. Pure.
//!
//! What they don't notice expands; what takes something from them, or refuses what they write, contracts. The rest is
//! unknown rather than harmless: a statement that can't be read, a `DO`, data that is changed.

use std::collections::{BTreeMap, BTreeSet};

use molt_core::migration::{MAX_TEXT, MigrationKind};
use sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableOperation, AlterTypeOperation, AssignmentTarget, ColumnDef,
    ColumnOption, CreateIndex, CreateTable, ObjectName, ObjectType, OnCommit, RenameTableNameKind, Statement,
    TableConstraint, TableObject, Update,
};
use sqlparser::dialect::{Dialect, GenericDialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer, Whitespace};

mod columns;
mod names;
mod sessions;

use columns::{Added, Filler, bears_null, collide, is_strict, key_refuses, refuses};
use names::{Name, OWN_TABLES, column, deleted_from, folded, indexed, only};
use sessions::{Session, changes_on_its_way, session};

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

/// What a migration does, by its SQL in a database's dialect. In `own` the tool keeps what is applied, where the project
/// has another table for it than is usual.
pub fn classify(sql: &str, dialect: &str, own: Option<&str>) -> Class {
    let mut judge = Judge {
        own: own.map(str::to_owned),
        folds: matches!(dialect, "postgresql" | "sqlite"),
        nulls_collide: !matches!(dialect, "postgresql" | "sqlite" | "mysql" | "mariadb" | "oracle"),
        ..Judge::default()
    };
    let dialect: Box<dyn Dialect> = match dialect {
        "postgresql" => Box::new(PostgreSqlDialect {}),
        "mysql" | "mariadb" => Box::new(MySqlDialect {}),
        "sqlite" => Box::new(SQLiteDialect {}),
        _ => Box::new(GenericDialect {}),
    };
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

/// What was seen so far of one migration.
#[derive(Default)]
struct Judge {
    /// Names are folded, and a table that is renamed keeps its schema, as in `PostgreSQL` and `SQLite`. Elsewhere that
    /// depends on how the database is set up.
    folds: bool,
    /// Two NULLs are the same to a unique constraint.
    nulls_collide: bool,
    /// The tool's own table, where it is not one that tools usually have.
    own: Option<String>,
    /// The statement that is judged, for people: without its literals, of which one may be a password.
    told: String,
    /// Tables that it makes, known not to have been there: nobody older knows them.
    made: BTreeSet<Name>,
    /// Columns that it adds to others, by table; known not to have been there.
    added: BTreeMap<(Name, String), Added>,
    /// It has set what names without a schema mean, perhaps for one transaction only.
    path_moved: bool,
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
        if let Some(session) = session(&text) {
            return self.follow(session);
        }
        self.told = without_literals(&tokens);
        let mut tokens = if self.folds { folded(tokens) } else { tokens };
        if text.to_uppercase().starts_with("DROP INDEX CONCURRENTLY ") {
            // It would be taken for the index's name.
            let is_it = |t: &Token| matches!(t, Token::Word(word) if word.keyword == Keyword::CONCURRENTLY);
            let at = tokens.iter().position(is_it);
            if let Some(at) = at {
                tokens.remove(at);
            }
        }
        let changes = changes_on_its_way(&tokens);
        let mut parser = Parser::new(dialect).with_tokens(tokens);
        let parsed = parser.parse_statement().ok();
        // What is left over would go unjudged. Of a sequence that's its options, which are read in one order only.
        let whole = parser.peek_token_ref().token == Token::EOF;
        let options =
            |statement: &Statement| self.folds && matches!(statement, Statement::CreateSequence { .. });
        let effects = match parsed.filter(|statement| whole || options(statement)) {
            Some(statement) if changes && is_query(&statement) => {
                vec![Effect::Unknown(format!(
                    "`{}` changes other data too",
                    start(&self.told)
                ))]
            }
            Some(statement) => self.effects(&statement),
            None => vec![Effect::Unknown(format!(
                "`{}` is not understood",
                start(&self.told)
            ))],
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

    /// One of the tables in which tools keep what is applied, in whichever schema.
    fn is_own(&self, name: &Name) -> bool {
        OWN_TABLES.contains(&name.table()) || self.own.as_deref() == Some(name.table())
    }

    /// What is known of names ends where they may mean others.
    fn follow(&mut self, session: Session) {
        self.path_moved |= session == Session::Moves;
        match session {
            Session::Undone => {
                self.made.clear();
                self.added.clear();
            }
            Session::Moves | Session::Ends if self.path_moved => {
                self.made.retain(Name::is_qualified);
                self.added.retain(|(table, _), _| table.is_qualified());
            }
            _ => {}
        }
    }

    fn effects(&mut self, statement: &Statement) -> Vec<Effect> {
        let text = self.told.clone();
        let unknown = || Effect::Unknown(format!("`{}` may change what older revisions see", start(&text)));
        vec![match statement {
            Statement::CreateTable(table) => self.create(table),
            Statement::AlterTable(AlterTable {
                name: table,
                operations,
                ..
            }) => {
                let table = Name::of(table);
                return operations
                    .iter()
                    .map(|operation| self.alter(&table, operation))
                    .collect();
            }
            Statement::CreateIndex(index) => self.index(index),
            Statement::Drop {
                object_type, names, ..
            } => {
                let names: Vec<Name> = names.iter().map(Name::of).collect();
                if *object_type == ObjectType::Table && self.drops_its_own(&names) {
                    return Vec::new();
                }
                let names: Vec<String> = names.iter().map(Name::to_string).collect();
                Effect::Contract(format!(
                    "drops {} {}",
                    object_type.to_string().to_lowercase(),
                    names.join(", ")
                ))
            }
            Statement::CreateView(view) if !view.or_replace && !view.or_alter => {
                Effect::Expand(format!("creates view {}", Name::of(&view.name)))
            }
            Statement::CreateFunction(function) if !function.or_replace && !function.or_alter => {
                Effect::Expand(format!("creates function {}", Name::of(&function.name)))
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
            Statement::RenameTable(renames) => {
                let mut all_made = true;
                for rename in renames {
                    all_made &= self.rename(&Name::of(&rename.old_name), Some(Name::of(&rename.new_name)));
                }
                if all_made {
                    return Vec::new();
                }
                Effect::Mixed("renames a table".to_owned())
            }
            Statement::DropFunction(_)
            | Statement::DropTrigger(_)
            | Statement::DropDomain(_)
            | Statement::DropExtension(_)
            | Statement::Truncate(_) => Effect::Contract(start(&text).to_lowercase()),
            Statement::Insert(insert) => match &insert.table {
                TableObject::TableName(table) if self.is_own(&Name::of(table)) => Effect::None,
                TableObject::TableName(table) if self.made.contains(&Name::of(table)) => {
                    Effect::Expand(format!("fills table {}", Name::of(table)))
                }
                _ => unknown(),
            },
            Statement::Update(update) => self.update(update).unwrap_or_else(unknown),
            Statement::Delete(delete) if deleted_from(delete).is_some_and(|table| self.is_own(&table)) => {
                Effect::None
            }
            _ => unknown(),
        }]
    }

    fn create(&mut self, table: &CreateTable) -> Effect {
        let name = Name::of(&table.name);
        if self.is_own(&name) {
            return Effect::None;
        }
        if table.or_replace && !self.made.contains(&name) {
            return Effect::Mixed(format!("replaces table {name}"));
        }
        let inherited = table.inherits.iter().flatten();
        let mut parents = table.partition_of.iter().chain(inherited).map(Name::of);
        // Who reads or writes that one reads or writes this one.
        if let Some(live) = parents.find(|parent| !self.made.contains(parent)) {
            self.notes.push(format!(
                "a part of {live} is created, which keeps all its users waiting for a moment"
            ));
            if table.partition_of.is_some() && !(table.columns.is_empty() && table.constraints.is_empty()) {
                return Effect::Contract(format!(
                    "a constraint of {name}, a partition of {live}, refuses what older revisions may write"
                ));
            }
        } else if !table.if_not_exists && table.on_commit != Some(OnCommit::Drop) {
            // One that was there stays, with rows and with users; one that goes with its transaction uncovers what
            // its name hid.
            self.made.insert(name.clone());
        }
        Effect::Expand(format!("creates table {name}"))
    }

    /// Whether nobody older knows any of these tables. Those by such a name are not made any more.
    fn drops_its_own(&mut self, names: &[Name]) -> bool {
        let own = names
            .iter()
            .all(|name| self.is_own(name) || self.made.contains(name));
        // With or without a schema, it may be the one that was made.
        self.made
            .retain(|made| names.iter().all(|name| name.table() != made.table()));
        own
    }

    /// A made table is made under its new name only, if that is known. False if it was there before.
    fn rename(&mut self, old: &Name, new: Option<Name>) -> bool {
        let was_made = self.made.remove(old);
        if was_made {
            self.made.extend(new);
        }
        was_made
    }

    /// These columns, if all of them were added.
    fn all_added(&self, table: &Name, columns: &[String]) -> Option<Vec<Added>> {
        let added = |column: &String| self.added.get(&(table.clone(), column.clone())).copied();
        columns.iter().map(added).collect()
    }

    /// A constraint was judged by what these columns are filled by.
    fn bind(&mut self, table: &Name, columns: &[String]) {
        for column in columns {
            if let Some(added) = self.added.get_mut(&(table.clone(), column.clone())) {
                added.bound = true;
            }
        }
    }

    fn index(&mut self, index: &CreateIndex) -> Effect {
        let table = Name::of(&index.table_name);
        let is_new = self.made.contains(&table);
        if !is_new && !index.concurrently {
            self.notes.push(format!(
                "an index of {table} is created without CONCURRENTLY, which keeps writers waiting"
            ));
        }
        if index.unique && !is_new {
            let nulls_collide = self.nulls_collide || index.nulls_distinct == Some(false);
            let columns: Option<Vec<String>> = index.columns.iter().map(indexed).collect();
            let columns = columns.unwrap_or_default();
            let added = self.all_added(&table, &columns);
            if added.is_none_or(|added| collide(&added, nulls_collide)) {
                return Effect::Contract(format!(
                    "a unique index of {table} refuses what older revisions may write"
                ));
            }
            self.bind(&table, &columns);
        }
        Effect::Expand(format!("creates an index of {table}"))
    }

    /// Only columns that this migration has added are filled.
    fn update(&mut self, update: &Update) -> Option<Effect> {
        let table = only(&update.table)?;
        if self.is_own(&table) {
            return Some(Effect::None);
        }
        if !self.made.contains(&table) {
            for assignment in &update.assignments {
                let AssignmentTarget::ColumnName(ObjectName(parts)) = &assignment.target else {
                    return None;
                };
                // Of more parts, the first may be a column that was there, and the last a field of it.
                let [part] = parts.as_slice() else {
                    return None;
                };
                let key = (table.clone(), column(part.as_ident()?));
                self.added.get_mut(&key)?.as_rows = false;
            }
        }
        Some(Effect::Expand(format!("fills new columns of {table}")))
    }

    fn alter(&mut self, table: &Name, operation: &AlterTableOperation) -> Effect {
        use AlterTableOperation as Op;
        if let Op::RenameTable {
            table_name: RenameTableNameKind::As(new) | RenameTableNameKind::To(new),
        } = operation
        {
            let new = Name::of(new);
            // Elsewhere it may leave its schema.
            let known = self.folds || !table.is_qualified() || new.is_qualified();
            if self.rename(table, known.then(|| new.beside(table))) {
                return Effect::None;
            }
        }
        // Whatever takes another table into it is judged as if it was there.
        let takes = matches!(operation, Op::AttachPartition { .. } | Op::SwapWith { .. });
        if !takes && (self.is_own(table) || self.made.contains(table)) {
            return Effect::None;
        }
        let key = |column: &str| (table.clone(), column.to_owned());
        match operation {
            Op::AddColumn {
                column_def,
                if_not_exists,
                ..
            } => self.add_column(table, column_def, *if_not_exists),
            Op::DropColumn { column_names, .. } => {
                let columns = names::columns(column_names);
                let own = columns.iter().all(|c| self.added.remove(&key(c)).is_some());
                if own {
                    return Effect::None;
                }
                Effect::Contract(format!("drops column {table}.{}", columns.join(", ")))
            }
            Op::RenameColumn {
                old_column_name,
                new_column_name,
            } => {
                let (old, new) = (column(old_column_name), column(new_column_name));
                if let Some(added) = self.added.remove(&key(&old)) {
                    self.added.insert(key(&new), added);
                    return Effect::None;
                }
                Effect::Mixed(format!("renames column {table}.{old} to {new}"))
            }
            Op::RenameTable { .. } | Op::SwapWith { .. } => Effect::Mixed(format!("renames table {table}")),
            Op::RenameConstraint { old_name, .. } => Effect::Mixed(format!(
                "renames constraint {} of {table}, which older revisions may name",
                old_name.value
            )),
            Op::AlterColumn { column_name, op } => self.alter_column(table, &column(column_name), op),
            Op::ChangeColumn { old_name: name, .. } | Op::ModifyColumn { col_name: name, .. } => {
                Effect::Mixed(format!("changes column {table}.{}", column(name)))
            }
            Op::AddConstraint {
                constraint: TableConstraint::Index(_) | TableConstraint::FulltextOrSpatial(_),
                ..
            } => Effect::Expand(format!("creates an index of {table}")),
            Op::AddConstraint {
                constraint,
                not_valid,
            } => self.constrain(table, constraint, *not_valid),
            Op::DropConstraint { .. }
            | Op::DropPrimaryKey { .. }
            | Op::DropForeignKey { .. }
            | Op::DropIndex { .. } => Effect::Contract(format!("drops a constraint or index of {table}")),
            Op::ValidateConstraint { .. }
            | Op::SetTblProperties { .. }
            | Op::SetOptionsParens { .. }
            | Op::AddPartitions { .. }
            | Op::Algorithm { .. }
            | Op::Lock { .. } => Effect::None,
            Op::DetachPartition { .. } | Op::DropPartitions { .. } => {
                Effect::Contract(format!("takes a partition from {table}"))
            }
            _ => Effect::Unknown(format!(
                "`{}` may change what older revisions see",
                start(&self.told)
            )),
        }
    }

    fn constrain(&mut self, table: &Name, constraint: &TableConstraint, not_valid: bool) -> Effect {
        if let Some(columns) = self.borne(table, constraint, not_valid) {
            self.bind(table, &columns);
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

    /// The columns of a constraint, if they are new and it bears what older revisions' rows get in them.
    fn borne(&self, table: &Name, constraint: &TableConstraint, not_valid: bool) -> Option<Vec<String>> {
        let (columns, refuses) = match constraint {
            TableConstraint::Unique(unique) => {
                let columns: Vec<String> = unique.columns.iter().map(indexed).collect::<Option<_>>()?;
                let nulls_collide = self.nulls_collide || is_strict(unique.nulls_distinct);
                let refuses = collide(&self.all_added(table, &columns)?, nulls_collide);
                (columns, refuses)
            }
            TableConstraint::PrimaryKey(key) => {
                let columns: Vec<String> = key.columns.iter().map(indexed).collect::<Option<_>>()?;
                let added = self.all_added(table, &columns)?;
                let refuses = collide(&added, true) || added.iter().any(|added| added.filler == Filler::Null);
                (columns, refuses)
            }
            TableConstraint::ForeignKey(key) => {
                let columns = names::columns(&key.columns);
                let refuses = key_refuses(key, &self.all_added(table, &columns)?, not_valid);
                (columns, refuses)
            }
            TableConstraint::Check(check) => {
                let new = self
                    .added
                    .iter()
                    .filter(|((of, _), added)| of == table && added.filler == Filler::Null);
                let columns: Vec<String> = new.map(|((_, column), _)| column.clone()).collect();
                let refuses = !bears_null(&check.expr, &|name| columns.iter().any(|column| column == name));
                (columns, refuses)
            }
            _ => return None,
        };
        (!refuses).then_some(columns)
    }

    fn add_column(&mut self, table: &Name, definition: &ColumnDef, may_be_there: bool) -> Effect {
        let name = column(&definition.name);
        let has = |is: fn(&ColumnOption) -> bool| definition.options.iter().any(|o| is(&o.option));
        let filler = Filler::of_column(definition);
        let needed = has(|o| matches!(o, ColumnOption::NotNull | ColumnOption::PrimaryKey(_)));
        if !may_be_there {
            let added = Added {
                optional: !needed,
                filler,
                as_rows: true,
                bound: has(|o| {
                    matches!(
                        o,
                        ColumnOption::Unique(_)
                            | ColumnOption::PrimaryKey(_)
                            | ColumnOption::ForeignKey(_)
                            | ColumnOption::Check(_)
                    )
                }),
            };
            self.added.insert((table.clone(), name.clone()), added);
        }
        if needed && filler == Filler::Null {
            return Effect::Mixed(format!(
                "column {table}.{name} is NOT NULL without a default, and older revisions don't write it"
            ));
        }
        if let Some(why) = refuses(definition, filler, self.nulls_collide) {
            return Effect::Mixed(format!("column {table}.{name} {why}"));
        }
        Effect::Expand(format!("adds column {table}.{name}"))
    }

    fn alter_column(&mut self, table: &Name, column: &str, op: &AlterColumnOperation) -> Effect {
        use AlterColumnOperation as Op;
        let mut added = self.added.get_mut(&(table.clone(), column.to_owned()));
        let drops = match op {
            Op::DropDefault => true,
            Op::SetDefault { value } => Filler::of(value) == Filler::Null,
            _ => false,
        };
        match op {
            // As Django adds a column that is needed: it is there, and nobody older fills it.
            _ if drops => {
                let optional = added.is_some_and(|added| {
                    added.filler = Filler::Null;
                    added.as_rows = false;
                    added.optional
                });
                if optional {
                    return Effect::None;
                }
                Effect::Contract(format!(
                    "{table}.{column} loses its default, and older revisions may leave it out"
                ))
            }
            Op::SetDefault { value } => {
                if let Some(added) = &mut added {
                    added.filler = Filler::of(value);
                    added.as_rows = false;
                }
                if added.is_some_and(|added| added.bound) {
                    return Effect::Contract(format!(
                        "a constraint of {table}.{column} may refuse its new default, which older revisions' rows get"
                    ));
                }
                Effect::Expand(format!("{table}.{column} gets a default"))
            }
            Op::SetNotNull => {
                self.notes.push(format!(
                    "SET NOT NULL of {table}.{column} keeps users waiting while all rows are read"
                ));
                let filled = added.is_some_and(|added| {
                    added.optional = false;
                    added.filler != Filler::Null
                });
                if filled {
                    return Effect::Expand(format!(
                        "{table}.{column}, which is new and has a default, is NOT NULL"
                    ));
                }
                Effect::Contract(format!(
                    "{table}.{column} becomes NOT NULL, and older revisions may leave it out"
                ))
            }
            Op::DropNotNull => {
                if let Some(added) = added {
                    added.optional = true;
                }
                Effect::Expand(format!("{table}.{column} may be NULL"))
            }
            Op::SetDataType { .. } if added.is_some() => Effect::None,
            Op::SetDataType { data_type, .. } => {
                self.notes.push(format!(
                    "the type of {table}.{column} changes, which may rewrite the table and keeps users waiting"
                ));
                Effect::Mixed(format!("{table}.{column} becomes {data_type}"))
            }
            Op::AddGenerated { .. } => match added {
                Some(added) => {
                    added.filler = Filler::Own;
                    Effect::None
                }
                None => Effect::Contract(format!("{table}.{column} becomes generated")),
            },
            Op::DropDefault => Effect::None,
        }
    }
}

/// Whether a statement may have others in it, which do otherwise than it does.
fn is_query(statement: &Statement) -> bool {
    match statement {
        Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) => true,
        Statement::CreateTable(table) => table.query.is_some(),
        _ => false,
    }
}

/// The begin of a statement, for people.
/// A statement on one line, without what is written in it as data.
fn without_literals(tokens: &[Token]) -> String {
    let plain = |token: &Token| match token {
        Token::Word(_) | Token::Number(..) | Token::Placeholder(_) | Token::Whitespace(_) => {
            token.to_string()
        }
        other => {
            let text = other.to_string();
            let is_sign = text.chars().count() <= 4 && !text.contains(['\'', '"', '$']);
            if is_sign { text } else { "'…'".to_owned() }
        }
    };
    let text: String = tokens.iter().map(plain).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

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
