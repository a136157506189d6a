//! Digests: `sha256:` or `sha512:` and lower-case hex of the right length, nothing else.
//!
//! Other algorithms that the image specification allows (`blake3`) are refused: registries do not serve them, and a
//! digest that cannot be checked is useless here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

/// A hash function that names content (image-spec, descriptor, "Registered algorithms").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256; almost every registry and client uses it.
    Sha256,
    /// SHA-512; allowed by the specification, three times slower if the processor has SHA instructions.
    Sha512,
}

impl Algorithm {
    /// Returns the name before the colon.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

/// The name of some bytes: algorithm and hash. Safe as a file name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// A SHA-256 hash.
    Sha256([u8; 32]),
    /// A SHA-512 hash.
    Sha512([u8; 64]),
}

/// Why a text is not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No `algorithm:` in front.
    #[error("a digest is algorithm:hex, such as sha256:<64 hex digits>")]
    Shape,
    /// An algorithm other than sha256 and sha512.
    #[error("only sha256 and sha512 digests are supported")]
    Algorithm,
    /// Not exactly the right number of lower-case hex digits.
    #[error("a digest holds exactly 64 (sha256) or 128 (sha512) lower-case hex digits")]
    Hex,
}

impl Digest {
    /// Returns the SHA-256 digest of `bytes`.
    #[must_use]
    pub fn sha256(bytes: &[u8]) -> Self {
        Self::Sha256(Sha256::digest(bytes).into())
    }

    /// Returns the digest of `bytes` under the algorithm of `self`, for comparing.
    #[must_use]
    pub fn same_kind_of(&self, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(self.algorithm());
        hasher.update(bytes);
        hasher.finish()
    }

    /// Returns whether `bytes` hash to this digest.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        *self == self.same_kind_of(bytes)
    }

    /// Returns the hash function.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Returns the hash in lower-case hex, without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.as_bytes())
    }

    /// Returns the hash itself: 32 or 64 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }

    /// Returns the first twelve hex digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.as_bytes()[..6])
    }

    /// Returns the fallback tag, used without a Referrers API (distribution-spec, "Referrers Tag Schema"):
    /// `sha256-<hex>`, with the hash cut at 64 characters.
    #[must_use]
    pub fn fallback_tag(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(64);
        format!("{}-{hex}", self.algorithm().as_str())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().as_str(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, hash) = text.split_once(':').ok_or(DigestError::Shape)?;
        if hash.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(DigestError::Hex);
        }
        match algorithm {
            "sha256" => array(hash).map(Self::Sha256),
            "sha512" => array(hash).map(Self::Sha512),
            _ => Err(DigestError::Algorithm),
        }
    }
}

fn array<const N: usize>(hash: &str) -> Result<[u8; N], DigestError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(hash, &mut bytes).map_err(|_| DigestError::Hex)?;
    Ok(bytes)
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes a digest piece by piece.
#[derive(Clone)]
pub enum Hasher {
    /// Computes a SHA-256 digest.
    Sha256(Sha256),
    /// Computes a SHA-512 digest.
    Sha512(Sha512),
}

impl Hasher {
    /// Starts with no bytes.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// Returns the digest of all bytes added.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Self::Sha512(hasher) => Digest::Sha512(hasher.finalize().into()),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_is_read_and_written_alike() {
        assert_eq!(Digest::sha256(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::sha256(b""));
        let long = Digest::Sha512([7; 64]);
        assert_eq!(long.to_string().parse::<Digest>().unwrap(), long);
        assert_eq!(long.fallback_tag().len(), 7 + 64);
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        for (text, why) in [
            ("e3b0", DigestError::Shape),
            ("sha256:", DigestError::Hex),
            ("sha256:../../etc/passwd", DigestError::Hex),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", DigestError::Algorithm),
            (&EMPTY.to_uppercase().replace("SHA", "sha"), DigestError::Hex),
            (&EMPTY[..70], DigestError::Hex),
            (&format!("{EMPTY}0"), DigestError::Hex),
            (&EMPTY.replace("sha256", "sha512"), DigestError::Hex),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(why), "{text}");
        }
    }

    #[test]
    fn hashing_in_pieces_gives_the_same_digest() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"ab");
            hasher.update(b"c");
            assert!(hasher.finish().matches(b"abc"));
        }
    }
}
