//! Which jq paths are evaluated: those that only walk down the object. Pure.
//!
//! jq is a programming language, and a FieldExport can be written by whoever may write one in some namespace: a path must
//! not keep the operator busy or fill its memory. So there are no loops, definitions, variables and assignments, and nothing
//! that multiplies values. Invariant: each part of an admitted path is evaluated once at most for each value inside of the
//! object, and no text is longer than the path's length times the object's.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Term};
use jaq_core::load::{self};
use jaq_core::ops::Math;
use jaq_core::path::Part;

/// The longest path, in bytes.
pub const LONGEST: usize = 512;

/// Functions whose value is no larger than what they are given, by name and number of arguments.
const PLAIN: [(&str, usize); 32] = [
    ("all", 0),
    ("any", 0),
    ("arrays", 0),
    ("ascii_downcase", 0),
    ("ascii_upcase", 0),
    ("booleans", 0),
    ("empty", 0),
    ("endswith", 1),
    ("false", 0),
    ("first", 0),
    ("has", 1),
    ("keys", 0),
    ("last", 0),
    ("length", 0),
    ("ltrim", 0),
    ("ltrimstr", 1),
    ("not", 0),
    ("null", 0),
    ("nulls", 0),
    ("numbers", 0),
    ("objects", 0),
    ("reverse", 0),
    ("rtrim", 0),
    ("rtrimstr", 1),
    ("scalars", 0),
    ("select", 1),
    ("startswith", 1),
    ("strings", 0),
    ("tostring", 0),
    ("trim", 0),
    ("true", 0),
    ("type", 0),
];

/// Functions that make more of what they are given.
const GROWING: [(&str, usize); 2] = [("split", 1), ("tojson", 0)];

/// Functions whose arguments may have any number of values.
const OF_MANY: [(&str, usize); 5] = [("all", 2), ("any", 2), ("first", 1), ("isempty", 1), ("last", 1)];

/// Whether a path is evaluated, or why not.
pub fn admit(path: &str) -> Result<(), String> {
    if path.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    let Some(term) = load::parse(path, |parser| parser.term()) else {
        return Err("it is no jq".to_owned());
    };
    admit_term(&term, Values::Many).map(|_| ())
}

/// How many values a part may have.
#[derive(Clone, Copy, PartialEq)]
enum Values {
    /// One at most: both sides of an operator are, or they would be combined with each other.
    One,
    /// Any number, one after the other.
    Many,
}

/// Whether a value may be larger than what it is made of.
type Grows = bool;

type Admitted = Result<Grows, String>;

fn admit_term(term: &Term<&str>, values: Values) -> Admitted {
    match term {
        Term::Id | Term::Num(_) => Ok(false),
        Term::Neg(of) => admit_term(of, Values::One),
        Term::Str(None, parts) => admit_text(parts),
        Term::Str(Some(format), _) => Err(refused(format)),
        Term::BinOp(left, operator, right) => admit_operator(left, operator, right, values),
        Term::TryCatch(of, None) => admit_term(of, values),
        Term::IfThenElse(branches, otherwise) => {
            let mut grows = false;
            for (condition, then) in branches {
                grows |= admit_term(condition, Values::One)? | admit_term(then, values)?;
            }
            Ok(grows | otherwise.as_ref().map_or(Ok(false), |term| admit_term(term, values))?)
        }
        Term::Path(of, path) => {
            let mut grows = admit_term(of, values)?;
            for (part, _) in &path.0 {
                let bounds = match part {
                    Part::Index(index) => [Some(index), None],
                    Part::Range(None, None) if values == Values::One => {
                        return Err(
                            "`[]` is inside of an operator, a text or an argument: move it before a `|`"
                                .to_owned(),
                        );
                    }
                    Part::Range(from, to) => [from.as_ref(), to.as_ref()],
                };
                for bound in bounds.into_iter().flatten() {
                    grows |= admit_term(bound, Values::One)?;
                }
            }
            Ok(grows)
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

fn admit_text(parts: &[StrPart<&str, Term<&str>>]) -> Admitted {
    let mut grows = false;
    for part in parts {
        if let StrPart::Term(term) = part {
            admit_term(term, Values::One)?;
            grows = true;
        }
    }
    Ok(grows)
}

fn admit_operator(
    left: &Term<&str>,
    operator: &BinaryOp<&str>,
    right: &Term<&str>,
    values: Values,
) -> Admitted {
    match operator {
        BinaryOp::Pipe(None) => {
            let (left, right) = (admit_term(left, values)?, admit_term(right, values)?);
            if left && right {
                return Err("it makes a text of a text that it has made".to_owned());
            }
            Ok(left | right)
        }
        BinaryOp::Alt => Ok(admit_term(left, values)? | admit_term(right, values)?),
        BinaryOp::Or | BinaryOp::And | BinaryOp::Cmp(_) => {
            Ok(admit_term(left, Values::One)? | admit_term(right, Values::One)?)
        }
        BinaryOp::Math(Math::Add) => {
            admit_term(left, Values::One)?;
            admit_term(right, Values::One)?;
            Ok(true)
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
    let (many, mut grows) = (OF_MANY.contains(&call), GROWING.contains(&call));
    if !many && !grows && !PLAIN.contains(&call) {
        return Err(refused(name));
    }
    // The functions of many values have one themselves; a second argument is asked of each.
    for (position, argument) in arguments.iter().enumerate() {
        let values = if many && position == 0 { Values::Many } else { Values::One };
        grows |= admit_term(argument, values)?;
    }
    Ok(grows)
}

fn refused(what: &str) -> String {
    format!("`{what}` isn't supported in the path of a FieldExport, which only walks down to a value")
}

/// Whether a definition of jq's own library is for a function that is admitted, or is needed by one.
pub fn is_needed(name: &str, arguments: usize) -> bool {
    const BY_OTHERS: [(&str, usize); 6] =
        [("isboolean", 0), ("isnumber", 0), ("isstring", 0), ("isarray", 0), ("isobject", 0), ("error", 1)];
    let call = (name, arguments);
    [&PLAIN[..], &GROWING, &OF_MANY, &BY_OTHERS].iter().any(|list| list.contains(&call))
}
