//! Platforms: `os/arch[/variant]`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The platform of an image. Some images leave any field out; a replicator only shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// Operating system in Go's spelling, such as `linux`.
    pub os: String,
    /// Processor in Go's spelling, such as `amd64`.
    pub architecture: String,
    /// Variant of the processor, such as `v8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform: write os/arch or os/arch/variant, such as linux/arm64 or linux/arm/v7")]
pub struct PlatformError(String);

impl Platform {
    /// Returns whether this names a platform: attestation entries say `unknown/unknown`, some entries say nothing.
    #[must_use]
    pub fn is_known(&self) -> bool {
        let says = |text: &str| !text.is_empty() && text != "unknown";
        says(&self.os) && says(&self.architecture)
    }

    /// Returns whether this matches `wanted`: a `wanted` without a variant matches every variant. arm64 has only one
    /// variant in practice, v8, which some images write and others leave out.
    #[must_use]
    pub fn answers(&self, wanted: &Self) -> bool {
        let is_same = self.os == wanted.os && self.architecture == wanted.architecture;
        let is_any = wanted.variant.as_deref().is_none_or(str::is_empty);
        is_same && (is_any || self.told_variant() == wanted.told_variant())
    }

    fn told_variant(&self) -> Option<&str> {
        let variant = self.variant.as_deref().filter(|variant| !variant.is_empty());
        variant.or((self.architecture == "arm64").then_some("v8"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let is_word = |word: &&str| {
            !word.is_empty()
                && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        };
        let words: Vec<_> = text.split('/').take_while(is_word).collect();
        let platform = match words[..] {
            [os, architecture] => Self { os: os.into(), architecture: architecture.into(), variant: None },
            [os, architecture, variant] => {
                Self { os: os.into(), architecture: architecture.into(), variant: Some(variant.into()) }
            }
            _ => return Err(PlatformError(text.to_owned())),
        };
        let is_whole = platform.is_known() && platform.to_string() == text;
        if is_whole { Ok(platform) } else { Err(PlatformError(text.to_owned())) }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_deref() {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_without_a_variant_asks_for_every_variant() {
        for (is, wanted, fits) in [
            ("linux/arm/v7", "linux/arm", true),
            ("linux/arm/v7", "linux/arm/v7", true),
            ("linux/arm/v7", "linux/arm/v6", false),
            ("linux/arm", "linux/arm/v7", false),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm64/v9", "linux/arm64", true),
            ("linux/amd64", "windows/amd64", false),
        ] {
            let [platform, asked] = [is, wanted].map(|text| text.parse::<Platform>().unwrap());
            assert_eq!(platform.answers(&asked), fits, "{is} {wanted}");
        }
        // "The default, written out" must not mean "any variant".
        let [v9, v8] = ["linux/arm64/v9", "linux/arm64/v8"].map(|text| text.parse::<Platform>().unwrap());
        assert!(!v9.answers(&v8));
    }

    #[test]
    fn platforms_are_read_as_they_are_written() {
        for text in ["linux/amd64", "linux/arm/v7", "windows/amd64", "linux/riscv64"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "linux/arm/",
            "linux/arm/v7/x",
            "Linux/amd64",
            "unknown/unknown",
            "linux/arm 64",
        ] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
