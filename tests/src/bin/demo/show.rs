//! What a person sees: colours on a terminal, plain text elsewhere.

use std::io::IsTerminal;
use std::sync::LazyLock;

/// Colours are for people: not for files, not for those who ask for none.
static COLOURED: LazyLock<bool> =
    LazyLock::new(|| is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()));

/// Whether standard output is a terminal that can redraw lines.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal() && std::env::var("TERM").is_ok_and(|terminal| terminal != "dumb")
}

/// One line of progress.
pub(crate) fn say(line: &str) {
    println!("{line}");
}

pub(crate) fn red(text: &str) -> String {
    paint("31", text)
}

pub(crate) fn green(text: &str) -> String {
    paint("32", text)
}

pub(crate) fn yellow(text: &str) -> String {
    paint("33", text)
}

pub(crate) fn bold(text: &str) -> String {
    paint("1", text)
}

fn paint(code: &str, text: &str) -> String {
    if *COLOURED { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
