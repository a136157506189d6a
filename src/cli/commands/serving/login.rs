//! `autonomy registry login` and `logout`.

use std::io::{self, IsTerminal as _, Read as _};
use std::process::ExitCode;

use clap::Args;

use crate::cli::args::network::AccessArgs;
use crate::cli::context::{Run, RunContext};
use crate::error::{Error, Kind, Result, printable};
use crate::keychain::{Account, Vault};
use crate::oci::{Reference, Repository};
use crate::terminal::interrupt::unless_interrupted;
use crate::terminal::{password, print};
use crate::wire::ClientOptions;
use crate::workflow::{self, LoggedIn, LoggedOut};

/// Longest password that is read from stdin, in bytes: tokens have a few thousand.
const MAX_PASSWORD_BYTES: u64 = 64 << 10;

const FILES: &str = "\
The login is written to --authfile, else to the file in REGISTRY_AUTH_FILE, else to docker's config.json (in \
DOCKER_CONFIG or ~/.docker). Nothing else in that file changes. The file is replaced as a whole, with mode 0600; \
symbolic links are followed. If the file names a credential helper for the registry (credHelpers, credsStore), the \
helper stores the login.";

/// Logs in to a registry. Tries the account first (GET /v2/), and stores it only if the registry accepts it.
#[derive(Debug, Args)]
#[command(after_help = FILES)]
pub(crate) struct LoginCommand {
    /// User name; default is a prompt
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Read the password from stdin instead of prompting
    #[arg(long, requires = "user")]
    password_stdin: bool,
    #[command(flatten)]
    at: RegistryArgs,
}

/// Logs out of a registry: removes the login from the file that login writes to. Logging out twice is not an error.
#[derive(Debug, Args)]
#[command(after_help = FILES)]
pub(crate) struct Logout {
    #[command(flatten)]
    at: RegistryArgs,
}

/// The registry of a login.
#[derive(Debug, Args)]
struct RegistryArgs {
    /// Registry: host[:port]
    #[arg(value_name = "HOST")]
    host: String,
    #[command(flatten)]
    access: AccessArgs,
}

impl RegistryArgs {
    /// Returns the registry, the options for it, and the place of its login.
    fn open(&self) -> Result<(Repository, ClientOptions, Vault)> {
        let registry = registry(&self.host)?;
        let options = self.access.client();
        let vault = Vault::new(options.authfile.as_deref(), &options.environment, options.helper_limit)?;
        Ok((registry, options, vault))
    }
}

impl Run for LoginCommand {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        let (registry, options, vault) = self.at.open()?;
        let account = Account { user: self.user().await?, password: self.password().await? };
        let stopped = Error::new(Kind::Interrupted, "log in to").on(&registry.host);
        let login = workflow::login(&options, &vault, &registry.host, registry.api_host(), &account);
        let done = unless_interrupted(login, stopped).await?;
        done.warnings.iter().for_each(|warning| context.warn(warning));
        context.show(&done, |LoggedIn { host, user, file, helper, .. }| {
            print::line(&printable(&format!("logged in to {host} as {user}")));
            let helper = helper.as_ref().map(|name| format!("docker-credential-{name}"));
            print::row("kept in", helper.unwrap_or_else(|| file.display().to_string()));
        })
    }
}

impl LoginCommand {
    async fn user(&self) -> Result<String> {
        let user = match &self.user {
            Some(user) => user.clone(),
            None => {
                need_terminal().map_err(flags_needed)?;
                typed("User name: ", password::Shown::Yes).await?
            }
        };
        // A user name ends at the first colon (RFC 7617, section 2).
        let is_name = !user.is_empty() && !user.contains(':') && !user.chars().any(char::is_control);
        if is_name { Ok(user) } else { Err(wrong("a user name is not empty and holds no colon")) }
    }

    async fn password(&self) -> Result<String> {
        let password = if self.password_stdin {
            piped()?
        } else {
            need_terminal().map_err(flags_needed)?;
            typed("Password: ", password::Shown::No).await?
        };
        if password.is_empty() { Err(wrong("the password is empty")) } else { Ok(password) }
    }
}

impl Run for Logout {
    async fn run(self, context: &RunContext) -> Result<ExitCode> {
        let (registry, options, vault) = self.at.open()?;
        let stopped = Error::new(Kind::Interrupted, "log out of").on(&registry.host);
        let done = unless_interrupted(workflow::logout(&options, &vault, &registry.host), stopped).await?;
        done.warnings.iter().for_each(|warning| context.warn(warning));
        context.show(&done, |LoggedOut { host, was_logged_in, file, .. }| match was_logged_in {
            true => print::line(&format!("logged out of {host}")),
            false => print::line(&format!("not logged in to {host}: {} has no login for it", file.display())),
        })
    }
}

/// Returns the registry that `text` names: a host as references write it.
fn registry(text: &str) -> Result<Repository> {
    let refused = |hint: String| Error::new(Kind::Usage, "use the registry").on(text).hint(hint);
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = bare.split('/').next().unwrap_or_default();
    if host != text {
        let error = refused(format!("write {host}"));
        return Err(error.because("a login is for a registry, host[:port], without a scheme and without a path"));
    }
    let reference = format!("{host}/x").parse::<Reference>();
    reference.map(|reference| reference.repository).map_err(|_| {
        let error = Error::new(Kind::Usage, "use the registry").on(text).because("it is not a host[:port]");
        error.hint("write it as it stands in references: registry.example.com, localhost:5000, docker.io")
    })
}

fn flags_needed(error: Error) -> Error {
    error.hint("give --user USER --password-stdin, with the password on stdin")
}

/// Fails if there is no terminal to ask at.
pub(super) fn need_terminal() -> Result<()> {
    if io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, "ask for the login").because("stdin is no terminal"))
}

pub(super) async fn typed(prompt: &str, shown: password::Shown) -> Result<String> {
    let bytes = password::ask(prompt, shown).await?;
    String::from_utf8(bytes).map_err(|_| wrong("it is not text in UTF-8"))
}

/// Reads all of stdin, without the last line break.
pub(super) fn piped() -> Result<String> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_PASSWORD_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|why| Error::new(Kind::Local, "read the password from stdin").because(why))?;
    if bytes.len() as u64 > MAX_PASSWORD_BYTES {
        return Err(wrong("it is too long for a password"));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is not text in UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

pub(super) fn wrong(why: &str) -> Error {
    Error::new(Kind::Usage, "take the login").because(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_a_host_and_the_hint_says_which() {
        for host in ["r.example", "localhost:5000", "[::1]:5000", "docker.io", "10.0.0.1"] {
            assert_eq!(registry(host).unwrap().host, host);
        }
        assert_eq!(registry("docker.io").unwrap().api_host(), "registry-1.docker.io");
        for (text, hint) in [
            ("https://r.example/v2/", "write r.example"),
            ("r.example/", "write r.example"),
            ("r.example/team", "write r.example"),
            ("name", "references"),
            ("r.example:99999", "references"),
            ("", "references"),
            ("u:p@r.example", "references"),
        ] {
            let error = registry(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{text}");
            assert!(error.hint_text().unwrap().contains(hint), "{text}: {error:?}");
        }
    }
}
