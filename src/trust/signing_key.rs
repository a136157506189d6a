//! Signing keys: the one that a demonstration generates, and every kind that a `cosign.key` can hold.
//!
//! The scheme is the one that `cosign verify --key` checks by default, because that is what a seal promises: SHA-256 on
//! every curve, PKCS #1 v1.5 with SHA-256, pure Ed25519. cosign itself signs with P-384, P-521 and Ed25519 keys in
//! schemes that its own verifier does not try (cosign #5091, #5074).

use std::fmt;

use aws_lc_rs::digest::{self, Digest, SHA384_OUTPUT_LEN};
use aws_lc_rs::encoding::{AsBigEndian as _, AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA256_ASN1_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};

use super::failure::{ErrorClass, Failure};
use super::key::PublicKey;
use super::pem;
use crate::error::{Error, Kind, Result};

/// A private key in this process: for demonstrations, for sealing, for tests.
pub struct SigningKey {
    pair: Pair,
}

enum Pair {
    /// P-256 or P-521.
    Ecdsa(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(rsa::KeyPair),
}

impl SigningKey {
    /// Generates a new key, ECDSA on P-256, from the operating system's randomness.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if the system has no randomness.
    pub fn generate() -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING);
        let pair = pair.map_err(|_| Error::new(Kind::Local, "make signing key"))?;
        Ok(Self { pair: Pair::Ecdsa(pair) })
    }

    /// Parses a private key in PKCS #8, such as the decrypted content of a `cosign.key`: ECDSA on P-256, P-384 or
    /// P-521, Ed25519, or RSA of 2048, 3072 or 4096 bits.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) with the class `KEY_INVALID` if it is something else.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self> {
        let key = Pair::read(der).map(|pair| Self { pair });
        // Refuses a key whose signatures our own verifier would refuse: RSA of other lengths.
        key.filter(|key| key.public_key().is_ok()).ok_or_else(|| {
            let why = Failure::new(
                ErrorClass::KeyInvalid,
                "it holds no PKCS #8 key that is supported: ECDSA P-256, P-384, P-521, Ed25519, RSA 2048, 3072, 4096",
            );
            Error::new(Kind::Usage, "read signing key")
                .because(why)
                .hint("make a key with bundle keygen, or take one of these kinds over with cosign import-key-pair")
        })
    }

    /// Returns the private key in PKCS #8, for a caller that encrypts and stores it.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if it can't be encoded.
    pub fn to_pkcs8(&self) -> Result<Vec<u8>> {
        self.pair.pkcs8().map_err(|_| Error::new(Kind::Local, "encode signing key"))
    }

    /// Returns the public half as a PEM file, which [`PublicKey::from_pem`] and cosign read.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if it can't be encoded.
    pub fn public_pem(&self) -> Result<String> {
        let spki = self.pair.spki().map_err(|_| Error::new(Kind::Local, "encode public key"))?;
        Ok(pem::encode("PUBLIC KEY", spki.as_ref()))
    }

    /// Returns the public half, to verify with.
    ///
    /// # Errors
    ///
    /// Fails as [`SigningKey::public_pem`] does.
    pub fn public_key(&self) -> Result<PublicKey> {
        PublicKey::from_pem(self.public_pem()?.as_bytes())
    }

    /// Signs `message` in the scheme that cosign's verifier expects of such a key.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if the system has no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        self.pair.sign(message).map_err(|_| Error::new(Kind::Local, "sign"))
    }

    /// Signs content by its SHA-256, in the same scheme. Fails with an Ed25519 key, which signs no hash.
    pub(super) fn sign_hash(&self, sha256: &Digest) -> Result<Vec<u8>> {
        self.pair.sign_hash(sha256).map_err(|_| Error::new(Kind::Local, "sign"))
    }

    /// Returns the private key of Ed25519; none if the key is of another kind.
    pub(super) fn ed25519_seed(&self) -> Result<Option<[u8; 32]>> {
        let Pair::Ed25519(pair) = &self.pair else { return Ok(None) };
        let seed = pair.seed().and_then(|seed| seed.as_be_bytes()).ok();
        let seed = seed.and_then(|seed| seed.as_ref().try_into().ok());
        seed.map(Some).ok_or_else(|| Error::new(Kind::Local, "encode signing key"))
    }
}

impl Pair {
    fn read(der: &[u8]) -> Option<Self> {
        let ecdsa = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, der).ok();
        let p256 = || ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING).map(Self::Ecdsa);
        let p384 = || ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING).map(Self::P384);
        let p521 = || ecdsa(&ECDSA_P521_SHA256_ASN1_SIGNING).map(Self::Ecdsa);
        let ed25519 = || Ed25519KeyPair::from_pkcs8(der).ok().map(Self::Ed25519);
        let rsa = || rsa::KeyPair::from_pkcs8(der).ok().map(Self::Rsa);
        p256().or_else(p384).or_else(p521).or_else(ed25519).or_else(rsa)
    }

    fn pkcs8(&self) -> Result<Vec<u8>, Unspecified> {
        Ok(match self {
            Self::Ecdsa(pair) | Self::P384(pair) => pair.to_pkcs8v1()?.as_ref().to_vec(),
            Self::Ed25519(pair) => pair.to_pkcs8v1()?.as_ref().to_vec(),
            Self::Rsa(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair)?.as_ref().to_vec(),
        })
    }

    fn spki(&self) -> Result<PublicKeyX509Der<'_>, Unspecified> {
        match self {
            Self::Ecdsa(pair) | Self::P384(pair) => pair.public_key().as_der(),
            Self::Ed25519(pair) => pair.public_key().as_der(),
            Self::Rsa(pair) => pair.public_key().as_der(),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        match self {
            Self::Ed25519(pair) => Ok(pair.try_sign(message)?.as_ref().to_vec()),
            _ => self.sign_hash(&digest::digest(&digest::SHA256, message)),
        }
    }

    fn sign_hash(&self, sha256: &Digest) -> Result<Vec<u8>, Unspecified> {
        let signature = match self {
            Self::Ecdsa(pair) => pair.sign_digest(sha256)?,
            Self::P384(pair) => pair.sign_digest(&longer(sha256)?)?,
            Self::Ed25519(_) => return Err(Unspecified),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign_digest(&RSA_PKCS1_SHA256, sha256, &mut signature)?;
                return Ok(signature);
            }
        };
        Ok(signature.as_ref().to_vec())
    }
}

/// Returns a SHA-256 in the form of a longer hash, for a curve for which aws-lc-rs signs longer hashes only.
///
/// ECDSA reads a hash as a number (FIPS 186-5, section 6.4.1): a hash shorter than the curve's order is the same number
/// with zeros in front.
fn longer(hash: &Digest) -> Result<Digest, Unspecified> {
    let mut number = [0; SHA384_OUTPUT_LEN];
    number[SHA384_OUTPUT_LEN - hash.as_ref().len()..].copy_from_slice(hash.as_ref());
    Digest::import_less_safe(&number, &digest::SHA384)
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

#[cfg(test)]
mod tests;
