//! `a=b`, `a!=b`, `a in (x,y)`, `a notin (x,y)`, `a`, `!a`, `a>1`, `a<1`; commas mean "and".

use crate::metadata::syntax;

/// One term of a label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operator {
    Exists,
    DoesNotExist,
    In(Vec<String>),
    /// Holds for objects without the label too.
    NotIn(Vec<String>),
    GreaterThan(i64),
    LessThan(i64),
}

impl Requirement {
    pub(super) fn matches(&self, labels: &[(Box<str>, Box<str>)]) -> bool {
        let value = labels.iter().find(|(key, _)| **key == *self.key).map(|(_, value)| &**value);
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.operator {
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
            Operator::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
            Operator::GreaterThan(limit) => number().is_some_and(|number| number > *limit),
            Operator::LessThan(limit) => number().is_some_and(|number| number < *limit),
        }
    }
}

/// The terms of a selector; the error is the text for the client.
pub(super) fn parse(selector: &str) -> Result<Vec<Requirement>, String> {
    let mut tokens = Tokens { rest: selector };
    let mut requirements = Vec::new();
    if tokens.peek().is_empty() {
        return Ok(requirements);
    }
    if !starts_requirement(tokens.peek()) {
        return Err(format!("found '{}', expected: !, identifier, or 'end of string'", tokens.peek()));
    }
    loop {
        let requirement = requirement(&mut tokens);
        requirements.push(requirement.map_err(|error| format!("unable to parse requirement: {error}"))?);
        match tokens.next() {
            "" => return Ok(requirements),
            "," if starts_requirement(tokens.peek()) => {}
            "," => return Err(format!("found '{}', expected: identifier after ','", tokens.peek())),
            other => return Err(format!("found '{other}', expected: ',' or 'end of string'")),
        }
    }
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<Requirement, String> {
    let is_negated = tokens.peek() == "!";
    if is_negated {
        tokens.next();
    }
    let key = identifier(tokens)?;
    check(syntax::qualified_name(&key), "<nil>", &key)?;
    if is_negated {
        return Ok(Requirement { key, operator: Operator::DoesNotExist });
    }
    let operator = match tokens.peek() {
        "" | "," => Operator::Exists,
        "=" | "==" => {
            tokens.next();
            Operator::In(vec![value(tokens, &key)?])
        }
        "!=" => {
            tokens.next();
            Operator::NotIn(vec![value(tokens, &key)?])
        }
        "in" => {
            tokens.next();
            Operator::In(values(tokens, &key)?)
        }
        "notin" => {
            tokens.next();
            Operator::NotIn(values(tokens, &key)?)
        }
        ">" => {
            tokens.next();
            Operator::GreaterThan(number(tokens)?)
        }
        "<" => {
            tokens.next();
            Operator::LessThan(number(tokens)?)
        }
        other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
    };
    Ok(Requirement { key, operator })
}

fn identifier(tokens: &mut Tokens<'_>) -> Result<String, String> {
    match tokens.next() {
        token if is_identifier(token) => Ok(token.to_owned()),
        other => Err(format!("found '{other}', expected: identifier")),
    }
}

/// A value may be empty: `a=` matches a label without a value.
fn value(tokens: &mut Tokens<'_>, key: &str) -> Result<String, String> {
    let value = match tokens.peek() {
        "" | "," | ")" => String::new(),
        token if is_identifier(token) => tokens.next().to_owned(),
        other => return Err(format!("found '{other}', expected: identifier")),
    };
    check(syntax::label_value(&value), &format!("values[0][{key}]"), &value)?;
    Ok(value)
}

fn values(tokens: &mut Tokens<'_>, key: &str) -> Result<Vec<String>, String> {
    match tokens.next() {
        "(" => {}
        other => return Err(format!("found '{other}' expected: '('")),
    }
    let mut values = vec![value(tokens, key)?];
    loop {
        match tokens.next() {
            "," => values.push(value(tokens, key)?),
            ")" => return Ok(values),
            other => return Err(format!("found '{other}', expected: ',' or ')'")),
        }
    }
}

fn number(tokens: &mut Tokens<'_>) -> Result<i64, String> {
    let text = identifier(tokens)?;
    text.parse().map_err(|_| {
        format!("values[0]: Invalid value: {text:?}: for 'Gt', 'Lt' operators, the value must be an integer")
    })
}

fn check(mistakes: Vec<String>, path: &str, value: &str) -> Result<(), String> {
    match mistakes.first() {
        None => Ok(()),
        Some(mistake) => Err(format!("{path}: Invalid value: {value:?}: {mistake}")),
    }
}

fn starts_requirement(token: &str) -> bool {
    token == "!" || is_identifier(token)
}

fn is_identifier(token: &str) -> bool {
    token.starts_with(|first| !is_special(first))
}

fn is_special(character: char) -> bool {
    matches!(character, '=' | '!' | '(' | ')' | ',' | '<' | '>')
}

/// The text as operators and identifiers; an empty token is its end.
struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn peek(&self) -> &'a str {
        self.split().0
    }

    fn next(&mut self) -> &'a str {
        let (token, rest) = self.split();
        self.rest = rest;
        token
    }

    fn split(&self) -> (&'a str, &'a str) {
        let text = self.rest.trim_start();
        let end = match text.as_bytes() {
            [b'=', b'=', ..] | [b'!', b'=', ..] => 2,
            [b'=' | b'!' | b'(' | b')' | b',' | b'<' | b'>', ..] => 1,
            _ => text.find(|next: char| is_special(next) || next.is_whitespace()).unwrap_or(text.len()),
        };
        text.split_at_checked(end).unwrap_or((text, ""))
    }
}
