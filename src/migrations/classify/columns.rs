//! Columns that a migration adds to tables that were there, and what the rows of older revisions get in them.

use sqlparser::ast::{
    BinaryOperator, ColumnDef, ColumnOption, ConstraintReferenceMatchKind, Expr, ForeignKeyConstraint,
    Function, FunctionArg, FunctionArgExpr, FunctionArguments, NullsDistinctOption, UnaryOperator, Value,
};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::Token;

use super::names::column;

/// Types that number their rows.
const SERIALS: [&str; 6] = [
    "smallserial",
    "serial",
    "bigserial",
    "serial2",
    "serial4",
    "serial8",
];
/// Functions that never give the same twice.
const DISTINCT: [&str; 10] = [
    "gen_random_uuid",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
    "uuidv4",
    "uuidv7",
    "uuid",
    "newid",
    "newsequentialid",
    "nextval",
];

/// What rows get in a column that older revisions leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filler {
    Null,
    /// A default, which may be the same for all of them.
    Same,
    /// A value of its own for each.
    Own,
}

impl Filler {
    /// By a default.
    pub fn of(default: &Expr) -> Self {
        match default {
            Expr::Nested(value) | Expr::Cast { expr: value, .. } => Self::of(value),
            Expr::Value(value) if value.value == Value::Null => Self::Null,
            Expr::Function(function) if DISTINCT.contains(&called(function).as_str()) => Self::Own,
            _ => Self::Same,
        }
    }

    /// By all that a column is defined by.
    pub fn of_column(column: &ColumnDef) -> Self {
        let by = column.options.iter().find_map(|option| match &option.option {
            ColumnOption::Default(value) => Some(Self::of(value)),
            ColumnOption::Generated {
                generation_expr: Some(_),
                ..
            } => Some(Self::Same),
            ColumnOption::Generated { .. } | ColumnOption::Identity(_) => Some(Self::Own),
            ColumnOption::DialectSpecific(tokens) if tokens.iter().any(numbers) => Some(Self::Own),
            _ => None,
        });
        let serial = SERIALS.contains(&column.data_type.to_string().to_lowercase().as_str());
        by.unwrap_or(if serial { Self::Own } else { Self::Null })
    }
}

fn numbers(token: &Token) -> bool {
    matches!(token, Token::Word(word) if matches!(word.keyword, Keyword::AUTO_INCREMENT | Keyword::AUTOINCREMENT))
}

fn called(function: &Function) -> String {
    let name = function.name.0.last().and_then(|part| part.as_ident());
    name.map_or_else(String::new, |name| name.value.to_lowercase())
}

/// A column that a migration adds.
#[derive(Clone, Copy, Debug)]
pub struct Added {
    /// It may be NULL.
    pub optional: bool,
    pub filler: Filler,
    /// The rows that were there have what older revisions' rows get: what the database finds of them holds for those.
    pub as_rows: bool,
    /// A constraint relies on what it is filled by.
    pub bound: bool,
}

/// Whether two rows may be the same in all of these columns.
pub fn collide(columns: &[Added], nulls_collide: bool) -> bool {
    columns.iter().all(|added| match added.filler {
        Filler::Null => nulls_collide,
        Filler::Same => true,
        Filler::Own => false,
    })
}

/// Whether a foreign key refuses what older revisions leave in these columns.
pub fn key_refuses(key: &ForeignKeyConstraint, columns: &[Added], not_valid: bool) -> bool {
    let nulls = columns
        .iter()
        .filter(|added| added.filler == Filler::Null)
        .count();
    match nulls {
        0 => not_valid || !columns.iter().all(|added| added.as_rows),
        some => key.match_kind == Some(ConstraintReferenceMatchKind::Full) && some < columns.len(),
    }
}

/// Whether a column's own constraint refuses a second row, or any, that leaves it out; in words.
pub fn refuses(definition: &ColumnDef, filler: Filler, nulls_collide: bool) -> Option<&'static str> {
    let name = column(&definition.name);
    let is_it = |other: &str| other == name;
    definition.options.iter().find_map(|option| match &option.option {
        ColumnOption::Unique(unique) => {
            let nulls = nulls_collide || is_strict(unique.nulls_distinct);
            let alike = match filler {
                Filler::Null => nulls,
                Filler::Same => true,
                Filler::Own => false,
            };
            alike.then_some("is unique, and the rows of older revisions may all be the same in it")
        }
        ColumnOption::PrimaryKey(_) if filler != Filler::Own => {
            Some("is the primary key, and the rows of older revisions may all be the same in it")
        }
        ColumnOption::Check(check) => {
            let bears =
                bears_null(&check.expr, &is_it) && (filler == Filler::Null || is_of(&check.expr, &is_it));
            (!bears)
                .then_some("has a check that may refuse the rows of older revisions, which don't write it")
        }
        _ => None,
    })
}

/// To a unique constraint two NULLs are the same.
pub fn is_strict(nulls: NullsDistinctOption) -> bool {
    nulls == NullsDistinctOption::NotDistinct
}

/// Whether a check holds, or is NULL, wherever these columns are NULL.
pub fn bears_null(check: &Expr, is_column: &dyn Fn(&str) -> bool) -> bool {
    use BinaryOperator as Op;
    match check {
        Expr::Nested(check) => bears_null(check, is_column),
        Expr::BinaryOp { left, op, right } => match op {
            Op::And => bears_null(left, is_column) && bears_null(right, is_column),
            // NULL or false is NULL.
            Op::Or => bears_null(left, is_column) || bears_null(right, is_column),
            Op::Eq
            | Op::NotEq
            | Op::Lt
            | Op::LtEq
            | Op::Gt
            | Op::GtEq
            | Op::PGRegexMatch
            | Op::PGRegexIMatch
            | Op::PGRegexNotMatch
            | Op::PGRegexNotIMatch => is_null(left, is_column) || is_null(right, is_column),
            _ => false,
        },
        Expr::IsNull(expr)
        | Expr::InList { expr, .. }
        | Expr::Between { expr, .. }
        | Expr::Like { expr, .. }
        | Expr::ILike { expr, .. } => is_null(expr, is_column),
        Expr::Function(_) => is_null(check, is_column),
        _ => false,
    }
}

/// Whether a value is NULL wherever these columns are.
fn is_null(value: &Expr, is_column: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Expr::Identifier(ident) => is_column(&ident.value),
        Expr::Nested(value)
        | Expr::Cast { expr: value, .. }
        | Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr: value,
        } => is_null(value, is_column),
        Expr::Function(function) => argument(function).is_some_and(|value| is_null(value, is_column)),
        _ => false,
    }
}

/// Whether nothing but these columns decides.
fn is_of(value: &Expr, is_column: &dyn Fn(&str) -> bool) -> bool {
    let is_of = |value: &Expr| is_of(value, is_column);
    match value {
        Expr::Identifier(ident) => is_column(&ident.value),
        Expr::Value(_) => true,
        Expr::Nested(value)
        | Expr::Cast { expr: value, .. }
        | Expr::UnaryOp { expr: value, .. }
        | Expr::IsNull(value) => is_of(value),
        Expr::BinaryOp { left, right, .. } => is_of(left) && is_of(right),
        Expr::InList { expr, list, .. } => is_of(expr) && list.iter().all(is_of),
        Expr::Between { expr, low, high, .. } => is_of(expr) && is_of(low) && is_of(high),
        Expr::Like { expr, pattern, .. } | Expr::ILike { expr, pattern, .. } => is_of(expr) && is_of(pattern),
        Expr::Function(function) => argument(function).is_some_and(is_of),
        _ => false,
    }
}

/// The argument of a function that makes NULL of NULL.
fn argument(function: &Function) -> Option<&Expr> {
    if !matches!(called(function).as_str(), "json_valid" | "length" | "char_length") {
        return None;
    }
    match &function.args {
        FunctionArguments::List(list) => match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(value))] => Some(value),
            _ => None,
        },
        _ => None,
    }
}
