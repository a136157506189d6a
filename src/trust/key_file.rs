//! Encrypted private keys as cosign stores them in `cosign.key`: PEM around JSON around a NaCl secretbox around PKCS
//! #8.
//!
//! The file says how much work it takes to open. This module accepts only the three settings that cosign has ever used,
//! and checks that before the work: a file must not choose how much memory this process takes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use crypto_secretbox::{Nonce, XSalsa20Poly1305};
use serde_json::Value;

use super::failure::{ErrorClass, Failure};
use super::pem;
use super::signing_key::SigningKey;
use crate::document::json;
use crate::error::{Error, Kind, Result};

pub(crate) const LABEL: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
/// The label that cosign wrote before version 2.
const OLD_LABEL: &str = "ENCRYPTED COSIGN PRIVATE KEY";
const KDF: &str = "scrypt";
const CIPHER: &str = "nacl/secretbox";
const SALT_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// The work of the password derivation: N as a power of two; r = 8 and p = 1 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ScryptCost {
    log_n: u8,
}

impl ScryptCost {
    const R: u32 = 8;
    const P: u32 = 1;
    /// The setting that cosign and this program write. Takes 64 MiB.
    const STANDARD: Self = Self { log_n: 16 };
    /// The settings that are accepted: cosign's first one, its present one, and the one that OWASP advises.
    const READ: [Self; 3] = [Self { log_n: 15 }, Self::STANDARD, Self { log_n: 17 }];

    fn n(self) -> u64 {
        1 << self.log_n
    }

    /// Returns the setting with these parameters, if it is among the three that are accepted.
    fn of(n: &Value, r: &Value, p: &Value) -> Option<Self> {
        let is_usual = r.as_u64() == Some(Self::R.into()) && p.as_u64() == Some(Self::P.into());
        Self::READ.into_iter().find(|cost| is_usual && n.as_u64() == Some(cost.n()))
    }

    /// Derives the key from `password`. Takes 128 · N · r bytes of memory and a tenth of a second or more.
    fn derive(self, password: &[u8], salt: &[u8]) -> Result<[u8; 32]> {
        let failed = |why: String| Error::new(Kind::Local, "derive the key from the password").because(why);
        let bytes = usize::try_from(128 * self.n() * u64::from(Self::R)).unwrap_or(usize::MAX);
        // Reserved first, because running out of memory later would end the process without an error.
        Vec::<u8>::new()
            .try_reserve_exact(bytes)
            .map_err(|_| failed(format!("it takes {} MiB of memory", bytes >> 20)))?;
        let mut key = [0; 32];
        let params = scrypt::Params::new(self.log_n, Self::R, Self::P, key.len());
        let params = params.map_err(|why| failed(why.to_string()))?;
        scrypt::scrypt(password, salt, &params, &mut key).map_err(|why| failed(why.to_string()))?;
        Ok(key)
    }
}

/// The contents of a key file whose form was checked.
#[derive(Debug)]
pub(crate) struct SealedKey {
    cost: ScryptCost,
    salt: Vec<u8>,
    nonce: [u8; NONCE_BYTES],
    ciphertext: Vec<u8>,
}

#[cfg(feature = "fuzzing")]
impl SealedKey {
    /// Asserts that no file chooses how much work or memory it takes.
    pub(crate) fn assert_bounds(&self) {
        assert!(ScryptCost::READ.contains(&self.cost) && 128 * self.cost.n() * u64::from(ScryptCost::R) <= 128 << 20);
        assert!(self.salt.len() == SALT_BYTES && self.ciphertext.len() <= pem::MAX_BYTES);
    }
}

impl SigningKey {
    /// Decrypts a `cosign.key` with its password, which may be empty.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) with the class `KEY_PASSWORD` if the password is wrong, `KEY_KDF_PARAMS` if the file asks
    /// for other work than cosign's files do, `KEY_INVALID` if it is something else or holds a key of another kind than
    /// [`SigningKey::from_pkcs8`] accepts.
    pub fn from_encrypted_pem(bytes: &[u8], password: &[u8]) -> Result<Self> {
        let SealedKey { cost, salt, nonce, ciphertext } = read(bytes).map_err(refused)?;
        let key = cost.derive(password, &salt)?;
        let opened = XSalsa20Poly1305::new(&key.into()).decrypt(Nonce::from_slice(&nonce), ciphertext.as_slice());
        let wrong = || refused(Failure::new(ErrorClass::KeyPassword, "the password does not open the key"));
        Self::from_pkcs8(&opened.map_err(|_| wrong())?)
    }

    /// Returns the key as a `cosign.key`, encrypted with `password`.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if the system has no randomness or too little memory.
    pub fn to_encrypted_pem(&self, password: &[u8]) -> Result<String> {
        let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_BYTES]);
        for bytes in [&mut salt[..], &mut nonce] {
            getrandom::fill(bytes).map_err(|_| Error::new(Kind::Local, "encrypt signing key"))?;
        }
        let cost = ScryptCost::STANDARD;
        let key = cost.derive(password, &salt)?;
        let sealed = XSalsa20Poly1305::new(&key.into()).encrypt(Nonce::from_slice(&nonce), self.to_pkcs8()?.as_slice());
        let sealed = sealed.map_err(|_| Error::new(Kind::Local, "encrypt signing key"))?;
        let (salt, nonce, sealed) = (STANDARD.encode(salt), STANDARD.encode(nonce), STANDARD.encode(sealed));
        let (n, r, p) = (cost.n(), ScryptCost::R, ScryptCost::P);
        let text = format!(
            r#"{{"kdf":{{"name":"{KDF}","params":{{"N":{n},"r":{r},"p":{p}}},"salt":"{salt}"}},"cipher":{{"name":"{CIPHER}","nonce":"{nonce}"}},"ciphertext":"{sealed}"}}"#
        );
        Ok(pem::encode(LABEL, text.as_bytes()))
    }
}

fn refused(failure: Failure) -> Error {
    let hint = match failure.class {
        ErrorClass::KeyInvalid => {
            "name the private key that bundle keygen or cosign generate-key-pair wrote (cosign.key)"
        }
        class => class.hint(),
    };
    Error::new(Kind::Usage, "open signing key").because(failure).hint(hint)
}

/// Parses a file. Does none of the work that the file asks for.
pub(crate) fn read(bytes: &[u8]) -> Result<SealedKey, Failure> {
    let invalid = |why: String| Failure::new(ErrorClass::KeyInvalid, why);
    let (label, content) = pem::decode(bytes).map_err(invalid)?;
    match label.as_str() {
        LABEL | OLD_LABEL => {}
        "PUBLIC KEY" | "RSA PUBLIC KEY" => return Err(invalid("it holds a public key; its private half signs".into())),
        open if open.ends_with("PRIVATE KEY") => {
            let why =
                format!("it holds a {open}, not one that cosign encrypted; take it over with cosign import-key-pair");
            return Err(invalid(why));
        }
        other => return Err(invalid(format!("it holds a {other}, not an encrypted private key"))),
    }
    let whole = json::parse(&content).map_err(|why| invalid(format!("its {label} is not readable: {why}")))?;
    let at = |path: &str| whole.pointer(path).unwrap_or(&Value::Null);
    let (kdf, cipher) = (at("/kdf/name"), at("/cipher/name"));
    if kdf != KDF {
        let why = format!("its password derivation is {kdf}, not {KDF}");
        return Err(Failure::new(ErrorClass::KeyKdfParams, why));
    }
    let (n, r, p) = (at("/kdf/params/N"), at("/kdf/params/r"), at("/kdf/params/p"));
    let cost = ScryptCost::of(n, r, p).ok_or_else(|| {
        let read = ScryptCost::READ.map(|cost| cost.n().to_string()).join(", ");
        let why = format!("its password derivation has N={n} r={r} p={p}; N of {read} with r=8 p=1 are read");
        Failure::new(ErrorClass::KeyKdfParams, why)
    })?;
    if cipher != CIPHER {
        return Err(invalid(format!("its cipher is {cipher}, not {CIPHER}")));
    }
    let decode = |path: &str| {
        let text = at(path).as_str().ok_or_else(|| invalid(format!("it holds no {path}")))?;
        STANDARD.decode(text).map_err(|why| invalid(format!("its {path} is not base64: {why}")))
    };
    let (salt, nonce, ciphertext) = (decode("/kdf/salt")?, decode("/cipher/nonce")?, decode("/ciphertext")?);
    let nonce = nonce.try_into().map_err(|_| invalid(format!("its nonce is not of {NONCE_BYTES} bytes")))?;
    if salt.len() != SALT_BYTES {
        return Err(invalid(format!("its salt is not of {SALT_BYTES} bytes")));
    }
    Ok(SealedKey { cost, salt, nonce, ciphertext })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::trust::key::PublicKey;

    fn vectors() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verify-vectors")
    }

    fn class(opened: Result<SigningKey>) -> Option<ErrorClass> {
        let error = opened.err()?;
        assert_eq!(error.kind(), Kind::Usage, "{}", error.chain());
        assert!(error.hint_text().is_some());
        ErrorClass::of(&error)
    }

    #[test]
    fn every_vector_has_its_verdict_and_its_class() {
        let cases: Value = serde_json::from_slice(&std::fs::read(vectors().join("keys.json")).unwrap()).unwrap();
        let public = PublicKey::from_pem(&std::fs::read(vectors().join("keys/keyA.pub")).unwrap()).unwrap();
        let cases = cases.as_array().unwrap();
        assert_eq!(cases.len(), 7);
        for case in cases {
            let file = std::fs::read(vectors().join(case["file"].as_str().unwrap())).unwrap();
            let opened = SigningKey::from_encrypted_pem(&file, case["password"].as_str().unwrap().as_bytes());
            if case["expect"] == "pass" {
                let key = opened.unwrap();
                assert_eq!(key.public_key().unwrap().spki(), public.spki(), "{case}");
                assert!(public.verifies(b"x", &key.sign(b"x").unwrap()));
            } else {
                let class = class(opened).map(ErrorClass::as_str);
                assert_eq!(class, case["error_class"].as_str(), "{case}");
            }
        }
    }

    #[test]
    fn what_is_written_opens_with_its_password_and_no_other() {
        let key = SigningKey::generate().unwrap();
        for (password, other) in [("", " "), ("pässword", "password")] {
            let file = key.to_encrypted_pem(password.as_bytes()).unwrap();
            assert!(file.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"), "{file}");
            let opened = SigningKey::from_encrypted_pem(file.as_bytes(), password.as_bytes()).unwrap();
            assert_eq!(opened.public_pem().unwrap(), key.public_pem().unwrap());
            let refused = SigningKey::from_encrypted_pem(file.as_bytes(), other.as_bytes());
            assert_eq!(class(refused), Some(ErrorClass::KeyPassword));
        }
        let [one, two] = [(); 2].map(|()| key.to_encrypted_pem(b"").unwrap());
        assert_ne!(one, two, "salt and nonce are new each time");
    }

    /// Returns a test vector with a piece of its JSON replaced.
    fn edited(old: &str, new: &str) -> Vec<u8> {
        let file = std::fs::read(vectors().join("keys/keyA.N65536.key")).unwrap();
        let (label, content) = pem::decode(&file).unwrap();
        let content = String::from_utf8(content).unwrap();
        assert!(content.contains(old), "{old} in {content}");
        pem::encode(&label, content.replacen(old, new, 1).as_bytes()).into_bytes()
    }

    #[test]
    fn other_work_than_cosigns_is_refused_before_it_is_done() {
        for (old, new) in [
            ("65536", "65537"),
            ("65536", "16384"),
            ("65536", "4294967296"),
            ("65536", "-65536"),
            ("65536", "65536.0"),
            ("65536", "\"65536\""),
            ("65536", "1e400"),
            ("\"r\":8", "\"r\":1073741824"),
            ("\"r\":8", "\"r\":4"),
            ("\"p\":1", "\"p\":2"),
            ("\"p\":1", "\"P\":1"),
            ("\"scrypt\"", "\"argon2id\""),
        ] {
            let failure = read(&edited(old, new)).unwrap_err();
            // A number beyond the range of our JSON parser is no JSON to it.
            let expected = if new == "1e400" { ErrorClass::KeyInvalid } else { ErrorClass::KeyKdfParams };
            assert_eq!(failure.class, expected, "{new}: {failure}");
        }
    }

    #[test]
    fn anything_else_is_no_encrypted_key() {
        for (old, new) in [
            ("nacl/secretbox", "aes"),
            ("\"salt\":\"", "\"salt\":\"AAAA"),
            ("\"nonce\":\"", "\"nonce\":\"AAAA"),
            ("\"ciphertext\":\"", "\"ciphertext\":\"*"),
            ("\"ciphertext\"", "\"cipher_text\""),
            ("{\"kdf\"", "{\"kdf\":{},\"kdf\""),
        ] {
            assert_eq!(read(&edited(old, new)).unwrap_err().class, ErrorClass::KeyInvalid, "{new}");
        }
        for label in ["PUBLIC KEY", "PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "CERTIFICATE"] {
            let failure = read(pem::encode(label, b"{}").as_bytes()).unwrap_err();
            assert_eq!(failure.class, ErrorClass::KeyInvalid, "{failure}");
        }
        assert_eq!(read(b"hello").unwrap_err().class, ErrorClass::KeyInvalid);
    }

    proptest::proptest! {
        #[test]
        fn no_content_makes_the_reader_panic(content in r#"(\{|\}|"kdf":|"cipher":|"name":|"scrypt"|"params":|"N":|65536|,|\PC){0,15}"#) {
            proptest::prop_assert!(read(pem::encode(LABEL, content.as_bytes()).as_bytes()).is_err());
        }
    }
}
