//! The help text, from the table.

use super::table::{Flag, Group, TABLE};
use super::{Extra, RawFlags};

const WIDTH: usize = 100;

const ABOUT: &str = "\
Switchyard's node proxy makes the addresses of Kubernetes Services work on this node. It follows the
cluster's Services and EndpointSlices, through an API server or as YAML files, and writes the packet
rules that carry each connection to an endpoint. It takes kube-proxy's flags and configuration file.";

/// What `--help` prints.
pub(crate) fn help(program: &str, extras: &[Extra]) -> String {
    format!("{ABOUT}\n\n{}", usage(program, extras))
}

/// How to call the program, with every flag that is not hidden.
pub(crate) fn usage(program: &str, extras: &[Extra]) -> String {
    let mut text = format!("Usage:\n  {program} [flags]\n");
    if !extras.is_empty() {
        text.push_str("\nFlags of this command:\n");
        for extra in extras {
            push_entry(&mut text, extra.letter, extra.name, extra.type_name, extra.default, extra.doc);
        }
    }
    push_group(&mut text, "Flags", Group::KubeProxy);
    push_group(&mut text, "Switchyard's own flags (not in kube-proxy 1.36)", Group::Switchyard);
    text
}

fn push_group(text: &mut String, title: &str, group: Group) {
    let mut defaults = RawFlags::default();
    text.push_str(&format!("\n{title}:\n"));
    for flag in TABLE.iter().filter(|flag| flag.group == group && flag.listed()) {
        let default = shown_default(flag, &mut defaults);
        push_entry(text, flag.letter, flag.name, flag.slot.type_name(), &default, flag.doc);
    }
}

/// The default, or nothing where it is the type's own empty value.
fn shown_default(flag: &Flag, defaults: &mut RawFlags) -> String {
    let default = flag.slot.show(defaults);
    if matches!(default.as_str(), "false" | "[]") { String::new() } else { default }
}

fn push_entry(text: &mut String, letter: Option<char>, name: &str, kind: &str, default: &str, doc: &str) {
    let letter = letter.map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
    let kind = if kind.is_empty() { String::new() } else { format!(" {kind}") };
    let default = if default.is_empty() { String::new() } else { format!(" (default {default})") };
    text.push_str(&format!("  {letter}--{name}{kind}{default}\n"));
    let indent = " ".repeat(10);
    let mut line = indent.clone();
    for word in doc.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line.clone_from(&indent);
        }
        if line.len() > indent.len() {
            line.push(' ');
        }
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}
