//! Passwords: for a private key from `COSIGN_PASSWORD`, as cosign does it; all others typed without echo.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};

use crate::error::{Error, Kind, Result};

/// Longest typed password, in bytes.
const MAX_BYTES: u64 = 4096;

/// The purpose of the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A new key: asked for twice, because a typing error could not be corrected later.
    New,
    /// An existing key.
    Open,
}

/// Returns the password, which may be empty.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) if the variable is not set and stdin is no terminal, or if the two entries differ;
/// [`Interrupted`](Kind::Interrupted).
pub(crate) async fn get(purpose: Purpose) -> Result<Vec<u8>> {
    if let Some(password) = std::env::var_os("COSIGN_PASSWORD") {
        return Ok(OsString::into_encoded_bytes(password));
    }
    if !io::stdin().is_terminal() {
        return Err(Error::new(Kind::Usage, "ask for the key's password")
            .because("COSIGN_PASSWORD is not set, and stdin is no terminal")
            .hint("set COSIGN_PASSWORD (to nothing, for a key without a password)"));
    }
    let password = ask("Password of the private key: ", Shown::No).await?;
    if purpose == Purpose::New && password != ask("The same again: ", Shown::No).await? {
        return Err(Error::new(Kind::Usage, "take the password").because("the two are not the same"));
    }
    Ok(password)
}

/// Whether typed characters are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Yes,
    No,
}

/// Asks for a confirmation. No answer is a no.
pub(crate) async fn is_confirmed(question: &str) -> bool {
    let answer = ask(&format!("{question} [y/N] "), Shown::Yes).await.unwrap_or_default();
    matches!(answer.trim_ascii(), b"y" | b"Y" | b"yes")
}

/// Reads a line from the terminal. Restores the terminal on Ctrl-C.
pub(crate) async fn ask(prompt: &str, shown: Shown) -> Result<Vec<u8>> {
    let failed = |why: io::Error| Error::new(Kind::Local, "ask at the terminal").because(why);
    let stopped = || Error::new(Kind::Interrupted, "ask at the terminal");
    let mut interrupted = std::pin::pin!(crate::terminal::interrupt::interrupted());
    // Registered before echo is turned off: a Ctrl-C that ends the program at once would leave the terminal without echo.
    tokio::select! {
        biased;
        () = &mut interrupted => return Err(stopped()),
        () = std::future::ready(()) => {}
    }
    let hidden = if shown == Shown::No { Some(Hidden::start().map_err(failed)?) } else { None };
    let _ = write!(io::stderr(), "{prompt}");
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::BufRead::read_line(&mut io::Read::take(io::stdin().lock(), MAX_BYTES), &mut line).map(|_| line)
    });
    let line = tokio::select! {
        line = line => line.map_err(|why| failed(io::Error::other(why))),
        () = interrupted => Err(stopped()),
    };
    if hidden.is_some() {
        drop(hidden);
        // The line break was not echoed either.
        let _ = writeln!(io::stderr());
    }
    let line = line?.map_err(failed)?;
    if line.is_empty() {
        return Err(Error::new(Kind::Usage, "ask at the terminal").because("the input ended"));
    }
    Ok(line.trim_end_matches(['\n', '\r']).as_bytes().to_vec())
}

/// A terminal without echo, until dropped.
#[cfg(unix)]
struct Hidden(rustix::termios::Termios);

#[cfg(unix)]
impl Hidden {
    fn start() -> io::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let shown = tcgetattr(io::stdin())?;
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(shown))
    }
}

#[cfg(unix)]
impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Flush, &self.0);
    }
}

#[cfg(not(unix))]
struct Hidden;

#[cfg(not(unix))]
impl Hidden {
    fn start() -> io::Result<Self> {
        Err(io::Error::other("this system's terminals are not known: set COSIGN_PASSWORD, or give --password-stdin"))
    }
}
