//! Flags that choose platforms, and how the index is handled then.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::trust;
use crate::error::{Error, Kind, Result};
use crate::oci::Platform;
use crate::workflow::{IndexHandling, SiteKey};

/// Which platforms to copy, and how.
#[derive(Debug, Args)]
pub(crate) struct Subset {
    /// Copy only this platform (repeatable): os/arch[/variant]. Without a variant, any variant matches; linux/arm64 is
    /// linux/arm64/v8. The index keeps its digest, which distribution and zot refuse: see --rewrite-index
    #[arg(long = "platform", value_name = "PLATFORM")]
    pub(crate) platforms: Vec<Platform>,
    /// With --platform: write a smaller index instead, with its own digest. Needs --sign-key with --pub-key, or
    /// --skip-verify
    #[arg(long)]
    rewrite_index: bool,
    /// The site's own private key (cosign.key), which signs the rewritten index; the destination is verified with it. The
    /// password comes from COSIGN_PASSWORD or a prompt
    #[arg(long, value_name = "FILE")]
    sign_key: Option<PathBuf>,
}

impl Subset {
    /// Checks these flags against the others, without reading a file.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage), naming the flags.
    pub(crate) fn check(&self, has_public_key: bool, is_unverified: bool, copies_sidecars: bool) -> Result<()> {
        let refused = |text: &str, hint: &str| Err(Error::new(Kind::Usage, text).hint(hint));
        if !self.rewrite_index {
            return match self.sign_key {
                Some(_) => {
                    refused("--sign-key needs --rewrite-index", "an index that keeps its digest keeps its signature")
                }
                None => Ok(()),
            };
        }
        if self.platforms.is_empty() {
            return refused("--rewrite-index needs --platform", "name the platforms that the smaller index shall have");
        }
        if copies_sidecars {
            let hint = "the lock names the whole index: seal the smaller one anew where it stands, with bundle seal";
            return refused("--copy-policy cannot be used with --rewrite-index", hint);
        }
        match &self.sign_key {
            Some(_) if is_unverified => refused(
                "--sign-key cannot be used with --skip-verify",
                "give --pub-key: what is signed here has to be verified first",
            ),
            Some(_) if !has_public_key => refused(
                "--sign-key needs --pub-key",
                "the source is verified with --pub-key, and the rewritten index signed with --sign-key",
            ),
            None if !is_unverified => refused(
                "--rewrite-index needs --sign-key with --pub-key, or --skip-verify",
                "the signature of the whole index does not hold for a smaller one: give the site's own key (bundle keygen \
                 makes one)",
            ),
            _ => Ok(()),
        }
    }

    /// Returns whether a new index replaces the source's.
    pub(crate) fn makes_an_index(&self) -> bool {
        self.rewrite_index
    }

    /// Returns how the index is handled. Reads the key, and may ask for its password.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if the key cannot be used.
    pub(crate) async fn index(&self) -> Result<IndexHandling> {
        if !self.rewrite_index {
            return Ok(IndexHandling::Keep);
        }
        let Some(path) = &self.sign_key else { return Ok(IndexHandling::Rewrite(None)) };
        let key = trust::signing_key("--sign-key", path).await?;
        Ok(IndexHandling::Rewrite(Some(Arc::new(SiteKey { key, name: path.display().to_string() }))))
    }
}
