//! Credentials: the files and helpers of docker and podman, read once and only after a registry has asked for a login.
//!
//! Files are looked into in the order of contract §10; in each, the most specific key wins (`host/namespace/repository`
//! before `host`). Helpers are asked by name, as docker does it.

mod file;
mod helper;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use tokio::sync::{Mutex, OnceCell};

use self::file::{Config, Entry};
use crate::error::{Error, Kind, Result};

/// Where credentials may lie, as the process environment tells.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `REGISTRY_AUTH_FILE`: a file that must be there.
    pub registry_auth_file: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`, else `.config` in the home folder.
    pub config_home: Option<PathBuf>,
    /// `DOCKER_CONFIG`, a folder, else `.docker` in the home folder.
    pub docker_config: Option<PathBuf>,
}

impl Environment {
    /// Reads the variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self::of(|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
    }

    fn of(variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let in_home = |folder: &str| variable("HOME").map(|home| home.join(folder));
        Self {
            registry_auth_file: variable("REGISTRY_AUTH_FILE"),
            runtime_dir: variable("XDG_RUNTIME_DIR"),
            config_home: variable("XDG_CONFIG_HOME").or_else(|| in_home(".config")),
            docker_config: variable("DOCKER_CONFIG").or_else(|| in_home(".docker")),
        }
    }

    /// The files, in order.
    fn files(&self) -> impl Iterator<Item = PathBuf> {
        let podman =
            [&self.runtime_dir, &self.config_home].into_iter().flatten().map(|dir| dir.join("containers/auth.json"));
        podman.chain(self.docker_config.iter().map(|dir| dir.join("config.json"))).collect::<Vec<_>>().into_iter()
    }
}

/// What proves who we are.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// A name and a password or access token.
    Password { user: String, password: String },
    /// A refresh token for the token service.
    Identity(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password",
            Self::Identity(_) => "Identity",
        })
    }
}

/// The outcome of a search.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) credentials: Option<Credentials>,
    host: String,
    /// Where they come from, or where there were none.
    places: Vec<String>,
}

impl Found {
    /// The outcome in words.
    fn told(&self) -> String {
        let places = self.places.join(", ");
        match &self.credentials {
            Some(_) => format!("credentials for {} come from {places}", self.host),
            None if places.is_empty() => format!("there are no credentials for {}", self.host),
            None => format!("no credentials for {} in {places}", self.host),
        }
    }

    /// What to do about a refusal.
    pub(super) fn hint(&self) -> String {
        let told = self.told();
        format!("{told}; log in to {} with docker login or podman login, or name a file with --authfile", self.host)
    }
}

/// What a helper said, or why it said nothing.
type Said = Result<Option<Credentials>, String>;

/// All places of credentials.
#[derive(Debug)]
pub(super) struct Keychain {
    named: Vec<PathBuf>,
    usual: Vec<PathBuf>,
    files: OnceCell<Vec<Config>>,
    /// What helpers have said, by helper and server: each is asked once.
    helped: Mutex<HashMap<(String, String), Said>>,
}

impl Keychain {
    pub(super) fn new(authfile: Option<PathBuf>, environment: &Environment) -> Self {
        Self {
            named: authfile.into_iter().chain(environment.registry_auth_file.clone()).collect(),
            usual: environment.files().collect(),
            files: OnceCell::new(),
            helped: Mutex::default(),
        }
    }

    /// Finds the credentials for the repository `path` on `host`.
    pub(super) async fn find(&self, host: &str, path: &str) -> Result<Found> {
        let files = self.files.get_or_try_init(|| self.read()).await?;
        let host = file::normal(host);
        let mut places: Vec<String> = Vec::new();
        for config in files {
            let place = config.path.display().to_string();
            for entry in config.entries(&keys(&host, path)) {
                let (credentials, place) = match entry {
                    Entry::Credentials(credentials) => (Some(credentials), place.clone()),
                    Entry::Helper { name, server } => match self.ask(&name, &server).await {
                        Ok(credentials) => (credentials, format!("docker-credential-{name}")),
                        // As docker does it: an image that everybody may read must not need a helper that works.
                        Err(why) => (None, format!("docker-credential-{name} ({why})")),
                    },
                };
                if credentials.is_some() {
                    return Ok(Found { credentials, host, places: vec![place] });
                }
                places.push(place);
            }
            if !places.contains(&place) {
                places.push(place);
            }
        }
        Ok(Found { credentials: None, host, places })
    }

    async fn ask(&self, name: &str, server: &str) -> Said {
        let mut helped = self.helped.lock().await;
        let key = (name.to_owned(), server.to_owned());
        if let Some(said) = helped.get(&key) {
            return said.clone();
        }
        let said = helper::ask(name, server).await;
        if let Err(why) = &said {
            tracing::warn!(helper = name, why, "a credential helper does not work");
        }
        helped.insert(key, said.clone());
        said
    }

    /// Reads the files that were named by somebody, which have to be there and right whether they are needed or not.
    pub(super) async fn check(&self) -> Result<()> {
        self.read_named().await.map(drop)
    }

    async fn read_named(&self) -> Result<Vec<Config>> {
        let mut found = Vec::new();
        for path in &self.named {
            found.push(read(path).await?.ok_or_else(|| unusable(path).because("no such file"))?);
        }
        Ok(found)
    }

    async fn read(&self) -> Result<Vec<Config>> {
        let mut found = self.read_named().await?;
        for path in &self.usual {
            found.extend(read(path).await?);
        }
        Ok(found)
    }
}

async fn read(path: &Path) -> Result<Option<Config>> {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || crate::wire::file::read(&owned)).await;
    match read.map_err(std::io::Error::other).flatten() {
        Ok(bytes) => Config::parse(path, &bytes).map(Some).map_err(|why| unusable(path).because(why)),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(unusable(path).because(why)),
    }
}

fn unusable(path: &Path) -> Error {
    Error::new(Kind::Usage, "read credentials").on(path.display())
}

/// The keys to look for, the most specific first.
fn keys(host: &str, path: &str) -> Vec<String> {
    let mut keys = vec![format!("{host}/{path}")];
    while let Some((shorter, _)) = keys.last().and_then(|key| key.rsplit_once('/')) {
        let shorter = shorter.to_owned();
        keys.push(shorter);
    }
    keys
}

#[cfg(test)]
mod tests;
