//! The words in front of messages, `error:`, `warning:` and `hint:`, and their colours: those of clap's own messages.

use anstyle::{AnsiColor, Style};

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    Error,
    Warning,
    Hint,
}

impl Label {
    /// Splits the label off `text`: its kind, the word as it is written, and the rest.
    pub(super) fn split(text: &str) -> Option<(Self, &str, &str)> {
        let (word, rest) = text.split_at(text.find(": ")? + 1);
        let label = match word.trim_start() {
            "error:" => Self::Error,
            "warning:" | "WARNING:" => Self::Warning,
            "hint:" => Self::Hint,
            _ => return None,
        };
        Some((label, word, rest.trim_start()))
    }

    fn style(self) -> Style {
        let color = match self {
            Self::Error => AnsiColor::Red,
            Self::Warning => AnsiColor::Yellow,
            Self::Hint => AnsiColor::Green,
        };
        color.on_default().bold()
    }
}

/// Colours the label of `text`, if it has one.
pub(super) fn painted(text: &str) -> String {
    match Label::split(text) {
        Some((label, word, rest)) => {
            let (style, indent) = (label.style(), &word[..word.len() - word.trim_start().len()]);
            format!("{indent}{style}{}{style:#} {rest}", word.trim_start())
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_alone_is_coloured() {
        assert_eq!(painted("error: a: b"), "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m a: b");
        assert_eq!(painted("WARNING: a"), "\u{1b}[1m\u{1b}[33mWARNING:\u{1b}[0m a");
        assert_eq!(painted("  hint: a"), "  \u{1b}[1m\u{1b}[32mhint:\u{1b}[0m a");
        for text in ["source: error: a", "Put back 1 of 2 tags? [y/N] ", "error", ""] {
            assert_eq!(painted(text), text);
        }
    }
}
