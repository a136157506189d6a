//! Lists the repositories of a registry (`_catalog`): not in the specification. Registries of one site have it, public
//! ones mostly have not.

use serde::Deserialize;

use super::listing::{ALL_NAMES, NameList, PAGE_NAMES, null_is_empty};
use super::{Registry, Role};
use crate::error::{Kind, Result};
use crate::oci::{RegistryHost, RepositoryPath};
use crate::wire::{Client, Scopes};

/// The list of a registry's repositories.
#[derive(Debug, Clone)]
pub struct RegistryCatalog(Registry);

#[derive(Deserialize)]
struct RepositoriesPage {
    #[serde(deserialize_with = "null_is_empty")]
    repositories: Vec<String>,
}

impl From<RepositoriesPage> for Vec<String> {
    fn from(page: RepositoriesPage) -> Self {
        page.repositories
    }
}

impl RegistryCatalog {
    /// Returns the list of `host`, reached through `client`. Sends no request.
    #[must_use]
    pub fn new(client: &Client, host: &RegistryHost) -> Self {
        let connection = client.host(host.api_host(), "");
        Self(Registry::at(connection, host.as_str(), "", Role::Source))
    }

    /// Returns all repositories that the registry lists, in pages of a thousand.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](Kind::Unsupported) if the registry has no such list; [`Denied`](Kind::Denied) if it shows the list
    /// to other users only; [`Limit`](Kind::Limit) past 100,000 repositories or 1,000 pages.
    pub async fn repositories(&self) -> Result<Vec<RepositoryPath>> {
        let (op, scopes) = ("list repositories of", Scopes::catalog());
        let all = |page| NameList {
            path: "/v2/_catalog",
            op,
            names: "repositories",
            scopes: scopes.clone(),
            page,
            most: ALL_NAMES,
        };
        let listed = match self.0.listed_names::<RepositoriesPage>(&all(Some(PAGE_NAMES))).await {
            // The registry may refuse pages of this length.
            Err(error) if error.kind() == Kind::Invalid => self.0.listed_names::<RepositoriesPage>(&all(None)).await?,
            listed => listed?,
        };
        let names = listed.map_err(|_| {
            let why = "the registry has no list of repositories (_catalog)";
            self.0.error(Kind::Unsupported, op, "").because(why)
        })?;
        // Skip entries that are not valid names: they could not be requested anyway.
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }
}
