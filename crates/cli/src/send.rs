//! `switchyard trace --send`: the real connection, opened in the place of the lab that it comes from, or else right here.

use std::error::Error;
use std::io;

use switchyard_lab::cluster::Places;
use switchyard_proxy::trace::{Answer, Place, Question, Tried, open};

/// Opens the connection that was asked about, and holds it against the answer.
pub(crate) fn send(question: &Question, answer: &Answer) -> Result<String, String> {
    let compared = match Places::current().map_err(|error| chain(&error))? {
        Some(places) => in_lab(&places, question, answer),
        None => here(question, answer),
    };
    compared.map_err(|error| chain(&*error))
}

type Compared = Result<String, Box<dyn Error>>;

fn in_lab(places: &Places, question: &Question, answer: &Answer) -> Compared {
    let from = match &question.from {
        Place::Outside => places.outside()?,
        Place::Node { name } => places.machine(name)?,
        Place::Pod { .. } | Place::PodAddress { .. } => places.with_address(question.source)?,
    };
    let tried: io::Result<Tried> = from.run(|| open(question))?;
    let tried = tried?;
    let reply = places.machine(&question.node)?.run(|| tried.look_up())??;
    Ok(tried.compare(answer, reply).0)
}

fn here(question: &Question, answer: &Answer) -> Compared {
    let tried = open(question)?;
    let reply = tried.look_up()?;
    Ok(tried.compare(answer, reply).0)
}

fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
