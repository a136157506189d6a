//! Credentials: the files and helpers of docker and podman, read once and only after a registry has asked for a login.
//!
//! Files are read in the order of contract §10; in each, the most specific key wins (`host/namespace/repository` before
//! `host`). Helpers are called by name, as docker does it.

mod config_file;
mod credential_helper;
mod credential_store;
mod credentials;
mod edit;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod helper_environment;
mod json_members;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use self::config_file::{ConfigEntry, ConfigFile};
use self::credential_helper::{Helper, HelperFailure};
pub use self::credential_store::{StoredLogin, Vault};
pub use self::credentials::Account;
pub(crate) use self::credentials::Credentials;
use self::helper_environment::Surroundings;
use crate::error::{Error, Kind, Result};

/// Places that may hold credentials, according to the process environment.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `REGISTRY_AUTH_FILE`: a file that must exist.
    pub registry_auth_file: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`, else `.config` in the home folder.
    pub config_home: Option<PathBuf>,
    /// `DOCKER_CONFIG`, a folder, else `.docker` in the home folder.
    pub docker_config: Option<PathBuf>,
    /// All variables of the process. Credential helpers receive those that they need, without our passwords and those
    /// of proxies, and are searched for in `PATH`.
    pub variables: Vec<(OsString, OsString)>,
}

impl Environment {
    /// Reads the variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let named = Self::of(|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from));
        Self { variables: std::env::vars_os().collect(), ..named }
    }

    fn of(variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let in_home = |folder: &str| variable("HOME").map(|home| home.join(folder));
        Self {
            registry_auth_file: variable("REGISTRY_AUTH_FILE"),
            runtime_dir: variable("XDG_RUNTIME_DIR"),
            config_home: variable("XDG_CONFIG_HOME").or_else(|| in_home(".config")),
            docker_config: variable("DOCKER_CONFIG").or_else(|| in_home(".docker")),
            variables: Vec::new(),
        }
    }

    /// Returns the files, in order.
    fn files(&self) -> impl Iterator<Item = PathBuf> {
        let podman =
            [&self.runtime_dir, &self.config_home].into_iter().flatten().map(|dir| dir.join("containers/auth.json"));
        podman.chain(self.docker_config.iter().map(|dir| dir.join("config.json"))).collect::<Vec<_>>().into_iter()
    }
}

/// The outcome of a search.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) credentials: Option<Credentials>,
    /// Whether an identity token would be stored in place of a password.
    pub(crate) wants_identity: bool,
    host: String,
    /// Where they come from, or the places without any; empty if the caller passed the account.
    places: Vec<String>,
}

impl Found {
    /// Returns whether this is `account`, or the identity token that replaces its password.
    pub(crate) fn is(&self, account: &Account, identity: Option<&str>) -> bool {
        match (&self.credentials, identity) {
            (Some(Credentials::Identity(token)), Some(identity)) => token == identity,
            (Some(Credentials::Password { user, password }), None) => {
                (user, password) == (&account.user, &account.password)
            }
            _ => false,
        }
    }

    /// Describes the outcome in words.
    pub(crate) fn told(&self) -> String {
        let places = self.places.join(", ");
        match &self.credentials {
            Some(_) => format!("credentials for {} come from {places}", self.host),
            None if places.is_empty() => format!("there are no credentials for {}", self.host),
            None => format!("no credentials for {} in {places}", self.host),
        }
    }

    /// Returns what the operator can do about a refusal of the request, for which the login counts (403).
    pub(crate) fn refusal_hint(&self) -> String {
        let (places, host) = (self.places.join(", "), &self.host);
        match &self.credentials {
            Some(Credentials::Password { user, .. }) if places.is_empty() => format!(
                "asked as {user}: the registry knows this user and does not permit this; change the user's rights there"
            ),
            Some(Credentials::Password { user, .. }) => format!(
                "asked as {user}, whose login comes from {places}: change the user's rights in the registry, or log in as another one with autonomy registry login {host}"
            ),
            Some(_) => format!(
                "asked with the token from {places}: change its rights in the registry, or log in anew with autonomy registry login {host}"
            ),
            None => {
                let hint = self.hint();
                format!("asked without a login: {hint}")
            }
        }
    }

    /// Returns what the operator can do about a limit on requests (429), if a login does not help.
    pub(crate) fn quota_hint(&self) -> Option<String> {
        let Some(Credentials::Password { user, .. }) = &self.credentials else { return None };
        Some(format!("asked as {user}, so the limit is this user's: wait, or ask for less at once with --jobs 1"))
    }

    /// Returns what the operator can do about a refusal.
    pub(crate) fn hint(&self) -> String {
        if self.wants_identity {
            return "check the user name and the password; some registries want an access token in its place"
                .to_owned();
        }
        let (told, host) = (self.told(), &self.host);
        format!(
            "{told}; log in with autonomy registry login {host} (or docker login, podman login), or name a file with --authfile"
        )
    }
}

/// A helper's answer, or why there is none.
type Said = Result<Option<Credentials>, HelperFailure>;

/// State of one helper. It handles one call at a time.
#[derive(Debug, Default)]
struct Known {
    /// Its answers by server: each is requested once.
    said: HashMap<String, Said>,
    /// Servers for which a second call gave the same refused answer.
    settled: HashSet<String>,
    /// Why it is not called any more: it did not answer, and would make every caller wait again.
    given_up: Option<HelperFailure>,
}

/// All places of credentials.
#[derive(Debug)]
pub(crate) struct Keychain {
    named: Vec<PathBuf>,
    usual: Vec<PathBuf>,
    /// By path; `None` for a file that does not exist.
    files: Mutex<HashMap<PathBuf, Option<Arc<ConfigFile>>>>,
    helpers: std::sync::Mutex<HashMap<String, Arc<Mutex<Known>>>>,
    helper_limit: Duration,
    surroundings: Surroundings,
    /// The account that the caller passed, instead of all others.
    given: Option<Account>,
}

impl Keychain {
    pub(crate) fn new(authfile: Option<PathBuf>, environment: &Environment, helper_limit: Duration) -> Self {
        Self {
            named: authfile.into_iter().chain(environment.registry_auth_file.clone()).collect(),
            usual: environment.files().collect(),
            files: Mutex::default(),
            helpers: std::sync::Mutex::default(),
            helper_limit,
            surroundings: Surroundings::of(&environment.variables),
            given: None,
        }
    }

    /// Uses one account and reads no files.
    pub(crate) fn of(account: Account) -> Self {
        Self { given: Some(account), ..Self::new(None, &Environment::default(), Duration::ZERO) }
    }

    /// Finds the credentials for the repository `path` on `host`.
    ///
    /// `refused` are credentials that were found before and are not valid (any more): files are read again and helpers
    /// called again, because their credentials may last an hour and a long run takes longer.
    pub(crate) async fn find(&self, host: &str, path: &str, refused: Option<&Credentials>) -> Result<Found> {
        let host = config_file::normal(host);
        if let Some(Account { user, password }) = self.given.clone() {
            let credentials = Some(Credentials::Password { user, password });
            return Ok(Found { credentials, wants_identity: true, host, places: Vec::new() });
        }
        let mut places: Vec<String> = Vec::new();
        for config in self.files(refused.is_some()).await? {
            let place = config.path.display().to_string();
            for entry in config.entries(&keys(&host, path)) {
                let (credentials, place) = match entry {
                    ConfigEntry::Credentials(credentials) => (Some(credentials), place.clone()),
                    ConfigEntry::Unreadable(why) => return Err(unusable(&config.path).because(why)),
                    ConfigEntry::Helper { name, server } => match self.ask(&name, &server, refused).await {
                        Ok(credentials) => (credentials, format!("docker-credential-{name}")),
                        // As docker does it: pulling a public image must not require a working helper.
                        Err(why) => (None, format!("docker-credential-{name} ({why})")),
                    },
                };
                if credentials.is_some() {
                    return Ok(Found { credentials, wants_identity: false, host, places: vec![place] });
                }
                places.push(place);
            }
            if !places.contains(&place) {
                places.push(place);
            }
        }
        Ok(Found { credentials: None, wants_identity: false, host, places })
    }

    /// Calls a helper, unless its last answer is still valid. Other callers wait only for the same helper.
    async fn ask(&self, name: &str, server: &str, refused: Option<&Credentials>) -> Said {
        let known = {
            let mut helpers = crate::sync::lock(&self.helpers);
            Arc::clone(helpers.entry(name.to_owned()).or_default())
        };
        let mut known = known.lock().await;
        let before = known.said.get(server);
        let is_refused = matches!(before, Some(Ok(Some(own))) if Some(own) == refused);
        if let Some(said) = before
            && (!is_refused || known.settled.contains(server))
        {
            return said.clone();
        }
        let said = match (&known.given_up, Helper::named(name, self.helper_limit, &self.surroundings)) {
            (Some(why), _) => Err(why.clone()),
            (None, Err(why)) => Err(why),
            (None, Ok(helper)) => helper.get(server).await,
        };
        if let Err(why) = &said {
            if known.given_up.is_none() {
                tracing::warn!(helper = name, %why, "a credential helper does not work");
            }
            if why.is_silent {
                known.given_up = Some(why.clone());
            }
        }
        if is_refused && known.said.get(server) == Some(&said) {
            known.settled.insert(server.to_owned());
        }
        known.said.insert(server.to_owned(), said.clone());
        said
    }

    /// Reads the files that the operator named; they must exist and be valid even if they are not needed.
    pub(crate) async fn check(&self) -> Result<()> {
        for path in &self.named {
            self.named(path, false).await?;
        }
        Ok(())
    }

    async fn files(&self, fresh: bool) -> Result<Vec<Arc<ConfigFile>>> {
        let mut found = Vec::new();
        for path in &self.named {
            found.push(self.named(path, fresh).await?);
        }
        for path in &self.usual {
            found.extend(self.file(path, fresh).await?);
        }
        Ok(found)
    }

    async fn named(&self, path: &Path, fresh: bool) -> Result<Arc<ConfigFile>> {
        self.file(path, fresh).await?.ok_or_else(|| unusable(path).because("no such file"))
    }

    /// Reads a file once, and again if `fresh`. Keeps the old content if that fails: a pipe has nothing more to give,
    /// and another process may be writing.
    async fn file(&self, path: &Path, fresh: bool) -> Result<Option<Arc<ConfigFile>>> {
        let mut files = self.files.lock().await;
        let before = files.get(path).cloned();
        if let Some(before) = &before
            && (!fresh || !path.is_file())
        {
            return Ok(before.clone());
        }
        let found = match (read(path).await, before) {
            (Ok(found), _) => found.map(Arc::new),
            (Err(_), Some(before)) => before,
            (Err(why), None) => return Err(why),
        };
        files.insert(path.to_owned(), found.clone());
        Ok(found)
    }
}

async fn read(path: &Path) -> Result<Option<ConfigFile>> {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || crate::disk::read_file(&owned)).await;
    match read.map_err(std::io::Error::other).flatten() {
        Ok(bytes) => ConfigFile::parse(path, &bytes).map(Some).map_err(|why| unusable(path).because(why)),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(unusable(path).because(why)),
    }
}

fn unusable(path: &Path) -> Error {
    Error::new(Kind::Usage, "read credentials").on(path.display())
}

/// Returns the keys to look for, the most specific first.
fn keys(host: &str, path: &str) -> Vec<String> {
    let mut keys = vec![format!("{host}/{path}")];
    while let Some((shorter, _)) = keys.last().and_then(|key| key.rsplit_once('/')) {
        let shorter = shorter.to_owned();
        keys.push(shorter);
    }
    keys
}
