//! Signatures of blobs as files: content of any kind that a bare key signed, without a registry.
//!
//! Reads the three forms that `cosign sign-blob` writes, and writes the first: a sigstore bundle of version 0.3 with a
//! `messageSignature`, the JSON of cosign 2, and the signature alone in base64.

use aws_lc_rs::digest::{self, Algorithm};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::failure::{ErrorClass, Failure};
use super::key::PublicKey;
use super::protojson::{self, decode, message, text};
use super::sigstore_bundle::{self, MEDIA_TYPE};
use crate::document::json;

/// Largest file that is read, in bytes.
pub const MAX_BYTES: usize = 4 << 20;

/// The hash functions of `messageDigest` (`sigstore_common.proto`, `HashAlgorithm`): number, name, function.
const HASHES: [(u64, &str, &Algorithm); 3] =
    [(1, "SHA2_256", &digest::SHA256), (2, "SHA2_384", &digest::SHA384), (3, "SHA2_512", &digest::SHA512)];

/// The form of a signature's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobForm {
    /// A sigstore bundle, the form of cosign 3.
    Bundle,
    /// The JSON of cosign 2.
    Legacy,
    /// The signature alone, in base64.
    Bare,
}

impl BlobForm {
    /// Returns the form in words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::Legacy => "legacy bundle",
            Self::Bare => "signature alone",
        }
    }
}

/// A signature of a blob; nothing in it is trusted yet.
#[derive(Debug, Clone)]
pub struct BlobSignature {
    form: BlobForm,
    pub(super) signature: Vec<u8>,
    /// The hash of the content according to the file. cosign writes none for Ed25519.
    pub(super) declared: Option<digest::Digest>,
    /// False if the file demands another check than one with a key.
    pub(super) is_by_key: bool,
}

impl BlobSignature {
    /// Parses a file.
    ///
    /// # Errors
    ///
    /// `SIG_FORMAT` if it has none of the three forms, `SIG_LIMIT` if it is too large.
    pub fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        if bytes.len() > MAX_BYTES {
            let why = format!("the file has {} bytes where {MAX_BYTES} are read", bytes.len());
            return Err(Failure::new(ErrorClass::SigLimit, why));
        }
        let compact: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        if compact.first() != Some(&b'{') {
            let signature = STANDARD.decode(compact).ok().filter(|signature| !signature.is_empty());
            let signature = signature.ok_or_else(|| wrong("holds neither a bundle nor a signature in base64"))?;
            return Ok(Self { form: BlobForm::Bare, signature, declared: None, is_by_key: true });
        }
        let whole = json::parse(bytes).map_err(|why| wrong(&format!("is not readable: {why}")))?;
        if whole.get("base64Signature").is_some() { Self::legacy(&whole) } else { Self::bundle(&whole) }
    }

    /// Returns the form of the file.
    #[must_use]
    pub fn form(&self) -> BlobForm {
        self.form
    }

    /// Parses the JSON of cosign 2. Its certificate, or public key, and its log entry are ignored: the operator names the
    /// key.
    fn legacy(whole: &Value) -> Result<Self, Failure> {
        let [signature, _, _] = message(whole, ["base64Signature", "cert", "rekorBundle"])?;
        let signature = decode(text(signature)?)?;
        Ok(Self { form: BlobForm::Legacy, signature, declared: None, is_by_key: true })
    }

    fn bundle(whole: &Value) -> Result<Self, Failure> {
        let [material, blob, envelope] = sigstore_bundle::parts(whole)?;
        let (Some(blob), None) = (blob, envelope) else {
            return Err(protojson::format("holds no messageSignature alone, which the signature of a file is"));
        };
        let [declared, signature] = message(blob, ["messageDigest", "signature"])?;
        let (is_by_key, _) = sigstore_bundle::check_material(material)?;
        let (signature, declared) = (decode(text(signature)?)?, declared_hash(declared)?);
        Ok(Self { form: BlobForm::Bundle, signature, declared, is_by_key })
    }
}

/// Returns the hash in a `messageDigest`; none if it is absent or empty.
fn declared_hash(value: Option<&Value>) -> Result<Option<digest::Digest>, Failure> {
    let [algorithm, hash] = message(value.unwrap_or(&Value::Null), ["algorithm", "digest"])?;
    let (Some(algorithm), Some(hash)) = (algorithm, hash) else {
        let is_empty = algorithm.is_none() && hash.is_none();
        return if is_empty { Ok(None) } else { Err(protojson::format("has half of a messageDigest")) };
    };
    let is_named = |(number, name, _): &&(u64, &str, _)| algorithm == *name || algorithm.as_u64() == Some(*number);
    let known = HASHES.iter().find(is_named).map(|(_, _, function)| *function);
    let known = known.ok_or_else(|| protojson::format(&format!("has a messageDigest of {algorithm}")))?;
    let hash = digest::Digest::import_less_safe(&decode(text(Some(hash))?)?, known);
    hash.map(Some).map_err(|_| protojson::format("has a messageDigest of another length than its algorithm has"))
}

/// Returns the bundle of the `signature` that `key` made over content with this SHA-256.
#[must_use]
pub fn build(key: &PublicKey, sha256: &[u8], signature: &[u8]) -> Vec<u8> {
    let (hint, hash, signature) = (sigstore_bundle::hint(key), STANDARD.encode(sha256), STANDARD.encode(signature));
    let text = format!(
        r#"{{"mediaType":"{MEDIA_TYPE}","verificationMaterial":{{"publicKey":{{"hint":"{hint}"}}}},"messageSignature":{{"messageDigest":{{"algorithm":"SHA2_256","digest":"{hash}"}},"signature":"{signature}"}}}}"#
    );
    text.into_bytes()
}

fn wrong(why: &str) -> Failure {
    Failure::new(ErrorClass::SigFormat, format!("the file {why}"))
}
