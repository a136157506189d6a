//! The matrix of signatures: every kind of key, form and registry, in both directions between cosign and this program.

use std::path::Path;

use autonomy_registry::oci::{Manifest, MediaType, Name, Reference};
use autonomy_registry::store::Store as _;
use autonomy_registry::verify::{PublicKey, SigningKey};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
};

use crate::Case;
use crate::copies::{block_on, repository};
use crate::cosign::{Form, Keys, attest, autonomy, judged, sign, sign_as_of, verify, verify_with, years_ago};
use crate::peers::{Kind, Peers, Server, text};
use crate::signatures::publish;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "every kind of key signs in both directions on every registry",
        needs: &["cosign", "docker-registry", "registry3"],
        run: every_kind_of_key,
    },
    Case { name: "a key file opens at cosign and here whatever its cost", needs: &["cosign"], run: every_cost },
    Case {
        name: "what cosign signs recursively is verified as a whole and by platform",
        needs: &["cosign", "docker-registry", "registry3"],
        run: recursive,
    },
    Case {
        name: "one signature of several has to meet every demand",
        needs: &["cosign", "docker-registry"],
        run: several,
    },
    Case {
        name: "attestations stand beside signatures and are none",
        needs: &["cosign", "docker-registry"],
        run: attestations,
    },
];

/// Result of `cosign verify` on a signature by cosign itself.
#[derive(Debug, Clone, Copy)]
enum Own {
    Passes,
    /// Passes only if the hash is given (cosign #5091).
    NeedsHash(&'static str),
    /// Never passes: cosign signs with Ed25519ph and checks pure Ed25519 (cosign #5074).
    Never,
}

/// A kind of key: made by cosign, or made here and imported by cosign.
struct KeyKind {
    name: &'static str,
    pkcs8: Option<fn() -> Vec<u8>>,
    own: Own,
}

const KINDS: [KeyKind; 6] = [
    KeyKind { name: "P-256 (generated)", pkcs8: None, own: Own::Passes },
    KeyKind { name: "P-384", pkcs8: Some(|| ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING)), own: Own::NeedsHash("sha384") },
    KeyKind { name: "P-521", pkcs8: Some(|| ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING)), own: Own::NeedsHash("sha512") },
    KeyKind { name: "Ed25519", pkcs8: Some(ed25519), own: Own::Never },
    KeyKind { name: "RSA-2048", pkcs8: Some(|| rsa(KeySize::Rsa2048)), own: Own::Passes },
    KeyKind { name: "RSA-4096", pkcs8: Some(|| rsa(KeySize::Rsa4096)), own: Own::Passes },
];

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> Vec<u8> {
    EcdsaKeyPair::generate(algorithm).unwrap().to_pkcs8v1().unwrap().as_ref().to_vec()
}

fn ed25519() -> Vec<u8> {
    Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref().to_vec()
}

fn rsa(size: KeySize) -> Vec<u8> {
    let der: Pkcs8V1Der<'_> = RsaKeyPair::generate(size).unwrap().as_der().unwrap();
    der.as_ref().to_vec()
}

impl KeyKind {
    fn keys(&self, peers: &Peers, home: &Path) -> Keys {
        let folder = home.join(self.name);
        match self.pkcs8 {
            None => Keys::generated(peers, &folder),
            Some(make) => Keys::imported(peers, &folder, &make()),
        }
    }

    /// Checks the verdict of cosign on its own signature; returns it for the table.
    fn check_own(&self, peers: &Peers, keys: &Keys, reference: &str, form: Form) -> &'static str {
        let said = verify(peers, keys, reference, form);
        match self.own {
            Own::Passes => {
                said.unwrap_or_else(|why| panic!("{}: cosign's own: {why}", self.name));
                return "ok";
            }
            Own::NeedsHash(hash) => {
                verify_with(peers, keys, reference, form, &["--signature-digest-algorithm", hash]).unwrap();
            }
            Own::Never => {}
        }
        let why = said.expect_err("cosign verifies what it could not before: simplify this table");
        let refusal = match form {
            Form::Bundle => "could not verify envelope: accepted signatures do not match threshold",
            Form::Legacy | Form::Oci11 => "no matching signatures",
        };
        assert!(why.contains(refusal), "{}: {why}", self.name);
        if matches!(self.own, Own::Never) { "refused" } else { "ok if told the hash" }
    }
}

/// Runs `check` on all registries concurrently: most of the time is cosign's start.
fn on_each(peers: &Peers, kinds: &[Kind], check: impl Fn(&Server, &'static str) + Sync) {
    std::thread::scope(|scope| {
        for &kind in kinds {
            let check = &check;
            scope.spawn(move || check(&Server::start(peers, kind), kind.name()));
        }
    });
}

fn every_kind_of_key(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let keys: Vec<_> = KINDS.iter().map(|kind| kind.keys(peers, home.path())).collect();
    for (kind, keys) in KINDS.iter().zip(&keys) {
        each_opens_the_others_file(peers, keys, kind.name);
    }
    on_each(peers, &Kind::MATRIX, |server, registry| {
        for ((number, kind), keys) in (0..).zip(&KINDS).zip(&keys) {
            let mut cells = Vec::new();
            for form in [Form::Legacy, Form::Bundle] {
                let (what, path) = (format!("{} {}", kind.name, form.name()), format!("{}{number}", form.name()));
                let theirs = publish(&server.host, &format!("theirs/{path}"), number);
                sign(peers, keys, &theirs, form);
                assert_eq!(judged(keys, &theirs), "ok", "{what} on {registry}");
                // The result of cosign on its own signature is the same on every registry.
                let own = match registry == Kind::Embedded.name() {
                    true => format!(", cosign->cosign {}", kind.check_own(peers, keys, &theirs, form)),
                    false => String::new(),
                };

                let ours = publish(&server.host, &format!("ours/{path}"), number);
                let done = autonomy(&["bundle", "seal", &ours, "--key", keys.private(), "--format", form.name()]);
                assert!(done.status.success(), "{what} on {registry}: {}", text(&done));
                verify(peers, keys, &ours, form).unwrap_or_else(|why| panic!("{what} on {registry}: {why}"));
                cells.push(format!("{}: cosign->us ok, us->cosign ok{own}", form.name()));
            }
            println!("table: {:<17} on {registry:<16} {}", kind.name, cells.join("; "));
        }
    });
}

fn each_opens_the_others_file(peers: &Peers, keys: &Keys, what: &str) {
    let public = PublicKey::from_pem(&std::fs::read(&keys.public).unwrap()).unwrap();
    let key = SigningKey::from_encrypted_pem(&std::fs::read(&keys.private).unwrap(), b"").unwrap();
    assert_eq!(key.public_key().unwrap().spki(), public.spki(), "{what}");
    let file = keys.private.with_file_name("ours.key");
    std::fs::write(&file, key.to_encrypted_pem(b"").unwrap()).unwrap();
    let read = peers.run("cosign", ["public-key", "--key", file.to_str().unwrap()]);
    assert_eq!(read, std::fs::read_to_string(&keys.public).unwrap().trim(), "{what}");
    println!("table: key file of {what:<17} cosign's opens here, ours at cosign");
}

fn every_cost(peers: &Peers) {
    // Both tools write N=65536 alone; older cosign files and other writers use the others.
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verify-vectors/keys");
    let public = std::fs::read_to_string(vectors.join("keyA.pub")).unwrap();
    for n in ["N32768", "N65536", "N131072"] {
        let file = vectors.join(format!("keyA.{n}.key"));
        let mut command = peers.command("cosign");
        command.env("COSIGN_PASSWORD", "edge-test-password").args(["public-key", "--key", file.to_str().unwrap()]);
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), public.trim(), "{n}: {}", text(&output));
        let key = SigningKey::from_encrypted_pem(&std::fs::read(&file).unwrap(), b"edge-test-password").unwrap();
        assert_eq!(key.public_pem().unwrap().trim(), public.trim(), "{n}");
        println!("table: key file with {n:<8} opens here and at cosign");
    }
}

/// The manifests of an index's platforms, by digest.
fn children(pinned: &str) -> Vec<String> {
    let reference: Reference = pinned.parse().unwrap();
    let (host, path) = pinned.split_once('@').unwrap().0.split_once('/').unwrap();
    let store = repository(host, path);
    let root = block_on(store.fetch(&Name::Digest(reference.digest.unwrap()))).unwrap();
    let index = Manifest::parse(&root.bytes, &MediaType::OCI_INDEX).unwrap();
    index.manifests.iter().map(|child| format!("{host}/{path}@{}", child.digest)).collect()
}

fn recursive(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let keys = Keys::generated(peers, home.path());
    on_each(peers, &Kind::MATRIX, |server, registry| {
        for (number, form) in (0..).zip([Form::Legacy, Form::Bundle]) {
            let whole = publish(&server.host, &format!("recursive/{}", form.name()), number);
            sign_as_of(peers, &keys, &whole, form, Some(&years_ago(0)), &["--recursive"]);
            let platforms = children(&whole);
            for reference in platforms.iter().chain([&whole]) {
                assert_eq!(judged(&keys, reference), "ok", "{} on {registry}: {reference}", form.name());
            }
            verify(peers, &keys, &platforms[0], form).unwrap();
            // Other content, because this one already has a signature.
            let alone = publish(&server.host, &format!("alone/{}", form.name()), 10 + number);
            sign(peers, &keys, &alone, form);
            let platform = children(&alone).remove(0);
            assert_eq!((judged(&keys, &alone).as_str(), judged(&keys, &platform).as_str()), ("ok", "SIG_NOT_FOUND"));
            verify(peers, &keys, &platform, form).expect_err("a platform that nobody signed");
            println!(
                "table: {} --recursive on {registry}: index and {} platforms ok; without it a platform is SIG_NOT_FOUND",
                form.name(),
                platforms.len()
            );
        }
    });
}

/// Signer, and age in years; `None` is a signature without a time.
type Signature = (Signer, Option<i64>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signer {
    Trusted,
    Stranger,
}
use Signer::{Stranger, Trusted};

/// Several signatures, years old, in the order in which they are made, and our verdict.
const SEVERAL: [(&str, &[Signature], &str); 7] = [
    ("a stranger's, then the right one", &[(Stranger, Some(0)), (Trusted, Some(0))], "ok"),
    ("the right one, then a stranger's", &[(Trusted, Some(0)), (Stranger, Some(0))], "ok"),
    ("the same key twice", &[(Trusted, Some(0)), (Trusted, Some(0))], "ok"),
    ("stale, then fresh", &[(Trusted, Some(2)), (Trusted, Some(0))], "ok"),
    ("fresh, then stale", &[(Trusted, Some(0)), (Trusted, Some(2))], "ok"),
    ("the right one stale, a stranger's fresh", &[(Trusted, Some(2)), (Stranger, Some(0))], "TIME_STALE"),
    ("without a time of signing", &[(Trusted, None)], "TIME_MISSING"),
];

fn several(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let [trusted, stranger] = ["trusted", "stranger"].map(|name| Keys::generated(peers, &home.path().join(name)));
    on_each(peers, &[Kind::Embedded, Kind::Distribution2], |server, registry| {
        // With the Referrers API, and with the fallback tag. Signatures under a tag of their own are the same on both.
        let forms =
            if registry == Kind::Embedded.name() { [Form::Bundle, Form::Oci11] } else { [Form::Legacy, Form::Bundle] };
        for form in forms {
            for (number, (what, signatures, expected)) in (0..).zip(SEVERAL) {
                let pinned = publish(&server.host, &format!("several/{}{number}", form.name()), number);
                for (signer, age) in signatures {
                    let keys = if *signer == Trusted { &trusted } else { &stranger };
                    sign_as_of(peers, keys, &pinned, form, age.map(years_ago).as_deref(), &[]);
                }
                assert_eq!(judged(&trusted, &pinned), expected, "{what}, {} on {registry}", form.name());
                // cosign checks no age. With several referrers in its experimental form it reads only the last one.
                if form != Form::Oci11 || signatures.len() == 1 {
                    let said = verify(peers, &trusted, &pinned, form);
                    said.unwrap_or_else(|why| panic!("{what}, {} on {registry}: {why}", form.name()));
                }
            }
            println!("table: several signatures, {} on {registry}: {} cases ok", form.name(), SEVERAL.len());
        }
    });
    for (what, _, expected) in SEVERAL {
        println!("table: several signatures, {what}: {expected}");
    }
}

fn attestations(peers: &Peers) {
    let home = tempfile::tempdir().unwrap();
    let keys = Keys::generated(peers, home.path());
    on_each(peers, &[Kind::Embedded, Kind::Distribution2], |server, registry| {
        for (number, form) in (0..).zip([Form::Legacy, Form::Bundle]) {
            let pinned = publish(&server.host, &format!("attested/{}", form.name()), number);
            attest(peers, &keys, &pinned, form);
            let alone = judged(&keys, &pinned);
            let cosign = verify(peers, &keys, &pinned, form).is_ok();
            // cosign accepts any statement by the key about the digest as a signature, if it is in a bundle.
            let expected = if form == Form::Bundle { ("SIG_PAYLOAD_TYPE", true) } else { ("SIG_NOT_FOUND", false) };
            assert_eq!((alone.as_str(), cosign), expected, "{} on {registry}", form.name());
            sign(peers, &keys, &pinned, form);
            assert_eq!(judged(&keys, &pinned), "ok", "{} on {registry}", form.name());
            attest(peers, &keys, &pinned, form);
            assert_eq!(judged(&keys, &pinned), "ok", "{} on {registry}", form.name());
            verify(peers, &keys, &pinned, form).unwrap();
            let cosign = if cosign { "accepts" } else { "refuses" };
            println!(
                "table: attestation, {} on {registry}: alone {alone} (cosign {cosign}), beside a signature ok",
                form.name()
            );
        }
    });
}
