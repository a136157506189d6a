//! Public keys that an operator trusts.
//!
//! The scheme comes from the key, never from a signature: a peer must not choose how it is checked. aws-lc parses and
//! computes; this module restricts which keys and schemes are allowed.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA256_ASN1,
    ECDSA_P521_SHA512_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    VerificationAlgorithm,
};
use ed25519_dalek::Digest as _;

use super::failure::{ErrorClass, Failure};
use super::{pem, pss};
use crate::error::{Error, Kind, Result};
use crate::oci::Digest;

/// The algorithms to try on a key, in order, by scheme.
const SCHEMES: [(KeyScheme, &[&dyn VerificationAlgorithm]); 5] = [
    (KeyScheme::EcdsaP256, &[&ECDSA_P256_SHA256_ASN1]),
    // cosign signs with the curve's own hash and verifies with SHA-256 (cosign #5091): both occur in practice.
    (KeyScheme::EcdsaP384, &[&ECDSA_P384_SHA384_ASN1, &ECDSA_P384_SHA256_ASN1]),
    (KeyScheme::EcdsaP521, &[&ECDSA_P521_SHA512_ASN1, &ECDSA_P521_SHA256_ASN1]),
    (KeyScheme::Ed25519, &[&ED25519]),
    (KeyScheme::Rsa, &[&RSA_PKCS1_2048_8192_SHA256]),
];

const NO_KEY: &str = "it holds no key that is supported: ECDSA P-256, P-384, P-521, Ed25519, RSA 2048, 3072, 4096";

/// The kind of a key, which decides how its signatures are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyScheme {
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256,
    /// ECDSA on P-384 with SHA-384 or SHA-256.
    EcdsaP384,
    /// ECDSA on P-521 with SHA-512 or SHA-256.
    EcdsaP521,
    /// Ed25519, pure or pre-hashed (RFC 8032).
    Ed25519,
    /// RSA of 2048, 3072 or 4096 bits, PKCS #1 v1.5 with SHA-256.
    Rsa,
    /// The same, but the key is marked for PSS: PSS with SHA-256, a salt of 32 bytes, and nothing else.
    RsaPss,
}

/// A public key that an operator trusts.
#[derive(Clone)]
pub struct PublicKey {
    scheme: KeyScheme,
    parsed: Vec<ParsedPublicKey>,
    prehashed: Option<ed25519_dalek::VerifyingKey>,
    spki: Vec<u8>,
}

impl PublicKey {
    /// Parses a PEM file: `PUBLIC KEY` (SPKI) or `RSA PUBLIC KEY` (PKCS #1).
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) with the class `KEY_INVALID`; the error says so if it is a private key.
    pub fn from_pem(bytes: &[u8]) -> Result<Self> {
        Self::parse(bytes).map_err(|why| {
            Error::new(Kind::Usage, "read public key")
                .because(Failure::new(ErrorClass::KeyInvalid, why))
                .hint(ErrorClass::KeyInvalid.hint())
        })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (label, der) = pem::decode(bytes)?;
        if let Some(plain) = pss::unmarked(&der).filter(|_| label == "PUBLIC KEY") {
            return Self::parse_pss(der, &plain).ok_or_else(|| NO_KEY.to_owned());
        }
        Self::parse_der(&label, der)
    }

    /// Returns the key of an SPKI that is marked for PSS; `plain` is the same SPKI without the mark.
    fn parse_pss(spki: Vec<u8>, plain: &[u8]) -> Option<Self> {
        let key = Self::parse_der("PUBLIC KEY", plain.to_owned()).ok().filter(|key| key.scheme == KeyScheme::Rsa)?;
        let parsed = vec![ParsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, plain).ok()?];
        Some(Self { scheme: KeyScheme::RsaPss, parsed, spki, ..key })
    }

    fn parse_der(label: &str, der: Vec<u8>) -> Result<Self, String> {
        match label {
            "PUBLIC KEY" | "RSA PUBLIC KEY" => {}
            private if private.ends_with("PRIVATE KEY") => {
                return Err(format!("it holds a private key ({private}); keep that secret, and give its public half"));
            }
            other => return Err(format!("it holds a {other}, not a public key")),
        }
        for (scheme, algorithms) in SCHEMES {
            let parse = |algorithm: &&'static dyn VerificationAlgorithm| ParsedPublicKey::new(*algorithm, &der).ok();
            let Some(parsed) = algorithms.iter().map(parse).collect::<Option<Vec<_>>>() else { continue };
            let spki: PublicKeyX509Der<'_> = parsed[0].as_der().map_err(|_| NO_KEY.to_owned())?;
            // aws-lc also accepts bare points, compressed points and both RSA forms; this accepts only the form of the
            // PEM label, in the one encoding that Go's parser accepts too.
            let is_canonical = match label {
                "PUBLIC KEY" => spki.as_ref() == der,
                _ => scheme == KeyScheme::Rsa && spki.as_ref() != der && spki.as_ref().ends_with(&der),
            };
            if !is_canonical || (scheme == KeyScheme::Rsa && !is_allowed_rsa(spki.as_ref())) {
                return Err(NO_KEY.to_owned());
            }
            let spki = spki.as_ref().to_vec();
            let prehashed = if scheme == KeyScheme::Ed25519 { Some(dalek(&spki).ok_or(NO_KEY)?) } else { None };
            return Ok(Self { scheme, parsed, prehashed, spki });
        }
        Err(NO_KEY.to_owned())
    }

    /// Whether this key made `signature` over `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let is_pure = self.parsed.iter().any(|key| key.verify_sig(message, signature).is_ok());
        is_pure || self.prehashed.as_ref().is_some_and(|key| verifies_prehashed(key, message, signature))
    }

    /// Whether this key made `signature` over content with this hash. Never with Ed25519, which signs no hash.
    pub(super) fn verifies_hash(&self, hash: &aws_lc_rs::digest::Digest, signature: &[u8]) -> bool {
        self.parsed.iter().any(|key| key.verify_digest_sig(hash, signature).is_ok())
    }

    /// Returns the key for the checks of Ed25519; none if it is of another kind.
    pub(super) fn ed25519(&self) -> Option<&ed25519_dalek::VerifyingKey> {
        self.prehashed.as_ref()
    }

    /// Returns the kind of the key.
    #[must_use]
    pub fn scheme(&self) -> KeyScheme {
        self.scheme
    }

    /// Returns the key's name for people: SHA-256 of its SPKI, in hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        Digest::sha256(&self.spki).hex()
    }

    /// Returns the SPKI encoding.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?} {})", self.scheme, self.fingerprint())
    }
}

/// Whether the key has 2048, 3072 or 4096 bits, as the format's description allows; aws-lc alone would accept every
/// length between 2048 and 8192.
fn is_allowed_rsa(spki: &[u8]) -> bool {
    PublicEncryptingKey::from_der(spki).is_ok_and(|key| [2048, 3072, 4096].contains(&key.key_size_bits()))
}

/// Returns the same key for the pre-hashed scheme; none if it is of small order, because its signatures prove nothing.
fn dalek(spki: &[u8]) -> Option<ed25519_dalek::VerifyingKey> {
    let raw: &[u8; 32] = spki.last_chunk()?;
    ed25519_dalek::VerifyingKey::from_bytes(raw).ok().filter(|key| !key.is_weak())
}

/// Verifies Ed25519ph, which `cosign sign` writes with an Ed25519 key.
fn verifies_prehashed(key: &ed25519_dalek::VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    let hash = ed25519_dalek::Sha512::new_with_prefix(message);
    let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else { return false };
    key.verify_prehashed(hash, None, &signature).is_ok()
}

/// Returns the first twelve digits of a key's fingerprint, for messages.
pub(crate) fn short(fingerprint: &str) -> String {
    fingerprint.chars().take(12).collect()
}

#[cfg(test)]
mod tests;
