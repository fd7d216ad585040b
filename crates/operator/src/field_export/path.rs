//! Which jq paths are evaluated: those that only walk down the object, and of how much they make of it. Pure.
//!
//! jq is a programming language, and a FieldExport can be written by whoever may write one in some namespace: a path must
//! not keep the operator busy or fill its memory. So there are no loops, definitions, variables and assignments, and what
//! copies or joins values is counted. Invariant: each part of an admitted path is evaluated once at most for each value
//! inside of the object, and all that it makes takes the room of so many [`Copies`] of the object at most.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Term};
use jaq_core::load::{self};
use jaq_core::ops::Math;
use jaq_core::path::Part;

/// The longest path, in bytes.
pub const LONGEST: usize = 512;

/// The most copies of an object that a path may make, whatever the object's size is.
const MOST_COPIES: u32 = 256;

/// For how many copies of the object there must be room, if each part of the path is as large as the object.
pub type Copies = u32;

/// Functions whose value is a part of what they are given or a small one, by name and number of arguments.
const PLAIN: [(&str, usize); 27] = [
    ("all", 0),
    ("any", 0),
    ("arrays", 0),
    ("booleans", 0),
    ("empty", 0),
    ("endswith", 1),
    ("false", 0),
    ("first", 0),
    ("has", 1),
    ("last", 0),
    ("length", 0),
    ("ltrim", 0),
    ("ltrimstr", 1),
    ("not", 0),
    ("null", 0),
    ("nulls", 0),
    ("numbers", 0),
    ("objects", 0),
    ("rtrim", 0),
    ("rtrimstr", 1),
    ("scalars", 0),
    ("select", 1),
    ("startswith", 1),
    ("strings", 0),
    ("trim", 0),
    ("true", 0),
    ("type", 0),
];

/// Functions that make something of what they are given, and of how many copies of it that takes the room. A value for each
/// letter takes some eighty bytes, and one that the object has itself some twenty for three.
const MAKING: [(&str, usize, Copies); 7] = [
    ("ascii_downcase", 0, 1),
    ("ascii_upcase", 0, 1),
    ("keys", 0, 1),
    ("reverse", 0, 1),
    ("split", 1, 8),
    ("tojson", 0, 2),
    ("tostring", 0, 1),
];

/// Functions whose arguments may have any number of values.
const OF_MANY: [(&str, usize); 5] = [("all", 2), ("any", 2), ("first", 1), ("isempty", 1), ("last", 1)];

/// How many copies of the object a path may make, or why it isn't evaluated.
pub fn admit(path: &str) -> Result<Copies, String> {
    if path.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    let Some(term) = load::parse(path, |parser| parser.term()) else {
        return Err("it is no jq".to_owned());
    };
    let copies = admit_term(&term, Values::Many)?;
    if copies > MOST_COPIES {
        return Err(format!("it makes more than {MOST_COPIES} copies of the object"));
    }
    Ok(copies)
}

/// How many values a part may have.
#[derive(Clone, Copy, PartialEq)]
enum Values {
    /// One at most: both sides of an operator are, or they would be combined with each other.
    One,
    /// Any number, one after the other.
    Many,
}

type Admitted = Result<Copies, String>;

/// What is made of what was made: of each copy as many.
fn then(first: Copies, second: Copies) -> Copies {
    first.saturating_add(first.max(1).saturating_mul(second))
}

fn admit_term(term: &Term<&str>, values: Values) -> Admitted {
    match term {
        Term::Id | Term::Num(_) => Ok(0),
        Term::Neg(of) => admit_term(of, Values::One),
        Term::Str(None, parts) => admit_text(parts),
        Term::Str(Some(format), _) => Err(refused(format)),
        Term::BinOp(left, operator, right) => admit_operator(left, operator, right, values),
        Term::TryCatch(of, None) => admit_term(of, values),
        Term::IfThenElse(branches, otherwise) => {
            let mut copies = otherwise.as_ref().map_or(Ok(0), |term| admit_term(term, values))?;
            for (condition, branch) in branches {
                let both = admit_both(condition, Values::One, branch, values)?;
                copies = copies.saturating_add(both);
            }
            Ok(copies)
        }
        Term::Path(of, path) => {
            let mut copies = admit_term(of, values)?;
            for (part, _) in &path.0 {
                copies = then(copies, admit_part(part, values)?);
            }
            Ok(copies)
        }
        Term::Call(name, arguments) => admit_call(name, arguments),
        Term::Recurse => Err(refused("..")),
        Term::Arr(_) => {
            Err("it makes an array, and only a text, a number or a boolean can be exported".to_owned())
        }
        Term::Obj(_) => {
            Err("it makes an object, and only a text, a number or a boolean can be exported".to_owned())
        }
        Term::Label(..) | Term::Break(_) => Err(refused("label")),
        Term::TryCatch(_, Some(_)) => Err(refused("catch")),
        Term::Def(..) => Err(refused("def")),
        Term::Fold(name, ..) | Term::Var(name) => Err(refused(name)),
    }
}

fn admit_part(part: &Part<Term<&str>>, values: Values) -> Admitted {
    match part {
        Part::Index(index) => admit_key(index),
        Part::Range(None, None) if values == Values::One => {
            Err("`[]` is inside of an operator, a text or an argument: move it before a `|`".to_owned())
        }
        Part::Range(None, None) => Ok(0),
        Part::Range(from, to) => {
            // A copy of what is between them.
            let mut copies: Copies = 1;
            for bound in [from, to].into_iter().flatten() {
                copies = copies.saturating_add(admit_key(bound)?);
            }
            Ok(copies)
        }
    }
}

/// What names a member or a place: a text or a number that is written there. An array would be sought in the other one at
/// each place, and whatever is worked out is so again for each value that it is asked of.
fn admit_key(key: &Term<&str>) -> Admitted {
    match key {
        Term::Neg(of) => admit_key(of),
        Term::Num(_) | Term::Str(None, _) => admit_term(key, Values::One),
        _ => Err("an index isn't written as a number or a text (a text may have parts `\\(...)`)".to_owned()),
    }
}

fn admit_text(parts: &[StrPart<&str, Term<&str>>]) -> Admitted {
    let mut copies: Copies = 0;
    for part in parts {
        if let StrPart::Term(term) = part {
            copies = copies.saturating_add(admit_term(term, Values::One)?.max(1));
        }
    }
    Ok(copies)
}

/// Both may be alive at a time.
fn admit_both(left: &Term<&str>, of_left: Values, right: &Term<&str>, of_right: Values) -> Admitted {
    Ok(admit_term(left, of_left)?.saturating_add(admit_term(right, of_right)?))
}

fn admit_operator(
    left: &Term<&str>,
    operator: &BinaryOp<&str>,
    right: &Term<&str>,
    values: Values,
) -> Admitted {
    match operator {
        BinaryOp::Pipe(None) => Ok(then(admit_term(left, values)?, admit_term(right, values)?)),
        BinaryOp::Alt => admit_both(left, values, right, values),
        BinaryOp::Or | BinaryOp::And | BinaryOp::Cmp(_) => admit_both(left, Values::One, right, Values::One),
        BinaryOp::Math(Math::Add) => {
            let [left, right] = [admit_term(left, Values::One)?, admit_term(right, Values::One)?];
            Ok(left.max(1).saturating_add(right.max(1)))
        }
        BinaryOp::Math(other) => Err(refused(other.as_str())),
        BinaryOp::Comma => Err("it has several values, and one can be exported".to_owned()),
        BinaryOp::Pipe(Some(_)) => Err(refused("as")),
        BinaryOp::Assign | BinaryOp::Update | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt => {
            Err("it assigns something".to_owned())
        }
    }
}

fn admit_call(name: &str, arguments: &[Term<&str>]) -> Admitted {
    let call = (name, arguments.len());
    let many = OF_MANY.contains(&call);
    let making = MAKING.iter().find(|(made, count, _)| (*made, *count) == call);
    if !many && making.is_none() && !PLAIN.contains(&call) {
        return Err(refused(name));
    }
    let mut copies = 0;
    // The functions of many values have one themselves; a second argument is asked of each.
    for (position, argument) in arguments.iter().enumerate() {
        let values = if many && position == 0 { Values::Many } else { Values::One };
        let of_argument = if name == "has" { admit_key(argument)? } else { admit_term(argument, values)? };
        copies = then(copies, of_argument);
    }
    Ok(copies.saturating_add(making.map_or(0, |(_, _, copies)| *copies)))
}

fn refused(what: &str) -> String {
    format!("`{what}` isn't supported in the path of a FieldExport, which only walks down to a value")
}

/// Whether a definition of jq's own library is for a function that is admitted, or is needed by one.
pub fn is_needed(name: &str, arguments: usize) -> bool {
    const BY_OTHERS: [(&str, usize); 6] =
        [("isboolean", 0), ("isnumber", 0), ("isstring", 0), ("isarray", 0), ("isobject", 0), ("error", 1)];
    let call = (name, arguments);
    [&PLAIN[..], &OF_MANY, &BY_OTHERS].iter().any(|list| list.contains(&call))
        || MAKING.iter().any(|(made, count, _)| (*made, *count) == call)
}
