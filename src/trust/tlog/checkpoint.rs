//! Checkpoints: a log's signed statement of its size and root (C2SP `tlog-checkpoint` and `signed-note`).
//!
//! Origin, size and root, one line each; an empty line; then signatures of the log and of witnesses. Only a signature
//! by the trusted key counts; signatures of witnesses are ignored.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::key::{KeyScheme, PublicKey};
use super::merkle::Hash;
use crate::oci::Digest;

/// Largest checkpoint that is read, in bytes. Rekor writes 250, and 150 more for each witness.
const MAX_BYTES: usize = 64 << 10;
/// Most signatures on one checkpoint, as in Go's reader.
const MAX_SIGNATURES: usize = 100;

/// A checkpoint; nothing in it is trusted before [`Checkpoint::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// The signed text: all lines before the empty one.
    text: String,
    origin: String,
    pub(super) size: u64,
    pub(super) root: Hash,
    signatures: Vec<SignatureLine>,
}

/// A signature line: name, key hint, signature.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SignatureLine {
    name: String,
    /// The first bytes of the key's identity.
    hint: [u8; 4],
    signature: Vec<u8>,
}

impl Checkpoint {
    /// Parses a checkpoint; the error says in words what is wrong.
    pub(super) fn parse(note: &str) -> Result<Self, String> {
        if note.len() > MAX_BYTES {
            return Err(format!("is longer than {MAX_BYTES} bytes"));
        }
        if note.chars().any(|c| c.is_control() && c != '\n') {
            return Err("holds control characters".to_owned());
        }
        let (text, signatures) = note.rsplit_once("\n\n").ok_or("has no empty line before its signatures")?;
        let text = format!("{text}\n");
        let signatures = signatures.strip_suffix('\n').ok_or("does not end its signatures with a line break")?;
        let signatures: Vec<_> = signatures.split('\n').take(MAX_SIGNATURES + 1).collect();
        if signatures.len() > MAX_SIGNATURES {
            return Err(format!("has more than {MAX_SIGNATURES} signatures"));
        }
        let signatures = signatures.into_iter().map(SignatureLine::parse).collect::<Option<_>>();
        let signatures = signatures.ok_or("has a signature that is none")?;
        // Further lines are extensions: signed, and without a meaning here.
        let mut lines = text.split('\n');
        let mut line = || lines.next().filter(|line| !line.is_empty());
        let (Some(origin), Some(size), Some(root)) = (line(), line(), line()) else {
            return Err("does not begin with origin, size and root".to_owned());
        };
        let root = STANDARD.decode(root).ok().and_then(|root| root.try_into().ok()).ok_or("has no root of 32 bytes")?;
        let origin = origin.to_owned();
        let size = decimal(size).ok_or_else(|| format!("has the size {size:?}, which is no number"))?;
        Ok(Self { text, origin, size, root, signatures })
    }

    /// Whether the log of `key` uses the identity `id`: the SHA-256 of the key, or its [`identity`] under this origin.
    pub(super) fn is_of(&self, id: &[u8], key: &PublicKey) -> bool {
        id == identity(key, &self.origin).as_bytes()
    }

    /// Checks that the log of `key` has signed this; the error says in words why not.
    pub(super) fn check(&self, key: &PublicKey) -> Result<(), String> {
        // A log signs a checkpoint once. The first such line decides, so that a hundred copies cost no more than one.
        let line = self.signatures.iter().find(|line| self.is_name(&line.name) && line.is_by(key));
        let line = line.ok_or_else(|| format!("bears no signature of {:?} by the log's key", self.origin))?;
        if key.verifies(self.text.as_bytes(), &line.signature) {
            return Ok(());
        }
        Err("bears a signature by the log's key that does not verify".to_owned())
    }

    /// Whether a log of this name may have this origin: they are the same, except that Rekor's first version adds the
    /// number of its tree to the name.
    fn is_name(&self, name: &str) -> bool {
        let rest = self.origin.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix(" - ").and_then(decimal).is_some())
    }
}

impl SignatureLine {
    fn parse(line: &str) -> Option<Self> {
        let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let signature = STANDARD.decode(signature).ok()?;
        let (hint, signature) = signature.split_first_chunk()?;
        let is_whole = !name.is_empty() && !name.contains('+') && !signature.is_empty();
        is_whole.then(|| Self { name: name.to_owned(), hint: *hint, signature: signature.to_vec() })
    }

    fn is_by(&self, key: &PublicKey) -> bool {
        // Rekor's first version uses the SHA-256 of the key for all kinds of keys.
        [identity(key, &self.name), Digest::sha256(key.spki())].iter().any(|id| id.as_bytes().starts_with(&self.hint))
    }
}

/// Returns the identity of a log's key under a name (C2SP `signed-note`, "Signature types"; for ECDSA the name has no
/// effect).
fn identity(key: &PublicKey, name: &str) -> Digest {
    let named = |kind: &[u8], key: &[u8]| Digest::sha256(&[name.as_bytes(), b"\n", kind, key].concat());
    match key.scheme() {
        // No type of signature is defined for PSS: only the key itself identifies such a log.
        KeyScheme::EcdsaP256 | KeyScheme::EcdsaP384 | KeyScheme::EcdsaP521 | KeyScheme::RsaPss => {
            Digest::sha256(key.spki())
        }
        // The last 32 bytes of the SPKI are the raw key (RFC 8410).
        KeyScheme::Ed25519 => named(&[1], &key.spki()[key.spki().len().saturating_sub(32)..]),
        KeyScheme::Rsa => named(b"\xffPKIX-RSA-PKCS#1v1.5", key.spki()),
    }
}

/// Parses a decimal number without a leading zero.
fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;
    use crate::trust::pem;

    const LOG: &str = "log2025-alpha1.rekor.sigstage.dev";
    const ROOT: &str = "rs1YPY0ydAV0lxgfrq5pE4oRpUJwo3syeps5+eGUTDI=";

    /// Returns the key of sigstore's staging log of that name, and a checkpoint that it signed.
    fn staging() -> (PublicKey, String) {
        let spki = STANDARD.decode("MCowBQYDK2VwAyEAPn+AREHoBaZ7wgS1zBqpxmLSGnyhxXj4lFxSdWVB8o8=").unwrap();
        let key = PublicKey::from_pem(pem::encode("PUBLIC KEY", &spki).as_bytes()).unwrap();
        let signature = "8w1amdbj1mjNN674dHAkD92+QZoEgBC7o0mXYSTRluDjQrOPjrps3zQB9ut+ShLepyZPsWBDi5IB3yXyjgjQT6OG9A8=";
        (key, format!("{LOG}\n736\n{ROOT}\n\n\u{2014} {LOG} {signature}\n"))
    }

    #[test]
    fn a_checkpoint_of_a_real_log_is_believed() {
        let (key, note) = staging();
        let checkpoint = Checkpoint::parse(&note).unwrap();
        assert_eq!((checkpoint.size, STANDARD.encode(checkpoint.root).as_str()), (736, ROOT));
        checkpoint.check(&key).unwrap();
        let id = STANDARD.decode("8w1amZ2S5mJIQkQmPxdMuOrL/oJkvFg9MnQXmeOCXck=").unwrap();
        assert!(checkpoint.is_of(&id, &key), "the name that the log has for itself");
        assert!(!checkpoint.is_of(&id[..31], &key) && !checkpoint.is_of(b"", &key));
    }

    #[test]
    fn signatures_of_others_are_passed_over_wherever_they_stand() {
        let (key, note) = staging();
        let witness = format!("\u{2014} witness.example {}\n", STANDARD.encode([7; 76]));
        // Another key of the same log, which we do not know.
        let second = format!("\u{2014} {LOG} {}\n", STANDARD.encode([8; 68]));
        let (head, tail) = note.split_once("\n\n").unwrap();
        for signatures in [format!("{witness}{tail}"), format!("{tail}{witness}"), format!("{second}{tail}{witness}")] {
            Checkpoint::parse(&format!("{head}\n\n{signatures}")).unwrap().check(&key).unwrap();
        }
        let alone = Checkpoint::parse(&format!("{head}\n\n{witness}{second}")).unwrap();
        assert!(alone.check(&key).unwrap_err().contains("no signature"));
    }

    #[test]
    fn a_checkpoint_that_was_changed_is_refused() {
        let (key, note) = staging();
        for (old, new) in [
            ("736", "737"),
            ("rs1Y", "rs2Y"),
            ("\n736", " - 1\n736"),
            ("TDI=\n", "TDI=\nan extension\n"),
            ("8w1amdbj", "8w1amdbk"),
            ("8w1amdbj", "9w1amdbj"),
            ("\u{2014} log2025", "\u{2014} log2026"),
        ] {
            assert!(note.contains(old), "{old}");
            let checkpoint = Checkpoint::parse(&note.replacen(old, new, 1)).unwrap();
            assert!(checkpoint.check(&key).is_err(), "{new}");
        }
        let renamed = Checkpoint::parse(&note.replace("sigstage", "github")).unwrap();
        assert!(renamed.check(&key).unwrap_err().contains("no signature"), "the name goes into the hint");
    }

    #[test]
    fn what_is_no_checkpoint_is_not_read() {
        let (_, note) = staging();
        for (old, new) in [
            ("\n736", "\n0736"),
            ("\n736", "\n-1"),
            ("\n736", "\n+736"),
            ("\n736", ""),
            ("\n736", "\n18446744073709551616"),
            ("\n736", "\n736\r"),
            ("TDI=\n", "TD=\n"),
            ("TDI=\n", "TDIA\n"),
            ("\n\n", "\n"),
            ("\u{2014} ", "- "),
            ("\u{2014} ", "\u{2014}"),
            ("A8=\n", "A8=\n\n"),
            ("A8=\n", "A8="),
            ("A8=\n", "A8= more\n"),
            ("8w1amdbj", "*"),
        ] {
            assert!(note.contains(old), "{old}");
            assert!(Checkpoint::parse(&note.replacen(old, new, 1)).is_err(), "{new:?}");
        }
        let line = note.rsplit_once("\n\n").unwrap().1;
        assert!(Checkpoint::parse(&(note.clone() + &line.repeat(MAX_SIGNATURES - 1))).is_ok());
        assert!(Checkpoint::parse(&(note.clone() + &line.repeat(MAX_SIGNATURES))).unwrap_err().contains("more than"));
        assert!(Checkpoint::parse(&"a".repeat(MAX_BYTES + 1)).unwrap_err().contains("longer"));
        assert!(Checkpoint::parse("\n\n").is_err() && Checkpoint::parse("").is_err());
    }

    #[test]
    fn a_log_is_named_by_its_origin_or_by_what_stands_before_its_trees_number() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let spki = [&hex::decode("302a300506032b6570032100").unwrap(), pair.public_key().as_ref()].concat();
        let key = PublicKey::from_pem(pem::encode("PUBLIC KEY", &spki).as_bytes()).unwrap();
        for (origin, name, is_log) in [
            ("log.example", "log.example", true),
            ("log.example - 42", "log.example", true),
            ("log.example - 042", "log.example", false),
            ("log.example - ", "log.example", false),
            ("log.example.net", "log.example", false),
            ("log.example", "log.example.net", false),
        ] {
            let text = format!("{origin}\n7\n{ROOT}\n");
            for id in [identity(&key, name), Digest::sha256(&spki)] {
                let signature = [&id.as_bytes()[..4], pair.sign(text.as_bytes()).as_ref()].concat();
                let note = format!("{text}\n\u{2014} {name} {}\n", STANDARD.encode(signature));
                assert_eq!(Checkpoint::parse(&note).unwrap().check(&key).is_ok(), is_log, "{name} of {origin}");
            }
        }
    }
}
