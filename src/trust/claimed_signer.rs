//! The signer that a signature names, unverified: for display only. Anyone can name anyone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::key::short;
use super::{pem, sigstore_bundle};
use crate::document::json;
use crate::oci::Descriptor;

/// The annotation of a legacy signature with the certificate that belongs to it, as PEM.
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";

/// X.509 extension `subjectAltName`, 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// Fulcio's extension with the issuer of the identity, 1.3.6.1.4.1.57264.1.8: a UTF-8 string.
const ISSUER: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x08];
/// The same in older certificates, 1.3.6.1.4.1.57264.1.1: bare text.
const ISSUER_V1: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x01];

/// The parts of a bundle that are shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct BundleClaims {
    /// The signer, as [`of_layer`] returns it.
    pub(crate) signer: Option<String>,
    /// The predicate type of the signed statement.
    pub(crate) predicate_type: Option<String>,
}

/// Returns the signer that a layer of a legacy signature names: the identity in its certificate.
pub(crate) fn of_layer(layer: &Descriptor) -> Option<String> {
    let (label, der) = pem::decode(layer.annotations.get(CERTIFICATE)?.as_bytes()).ok()?;
    if label == "CERTIFICATE" { identity(&der) } else { None }
}

/// Returns what a sigstore bundle says about itself; nothing for bytes that are no bundle.
pub(crate) fn of_bundle(bytes: &[u8]) -> BundleClaims {
    let Ok(bundle) = json::parse(bytes) else { return BundleClaims::default() };
    let material = member(&bundle, "verificationMaterial", "verification_material");
    let certificate = material.and_then(|material| {
        let chain = member(material, "x509CertificateChain", "x509_certificate_chain");
        let first = chain.and_then(|chain| chain.get("certificates")?.get(0));
        let raw = member(material.get("certificate").or(first)?, "rawBytes", "raw_bytes")?;
        STANDARD.decode(raw.as_str()?).ok()
    });
    let key = material.and_then(|material| member(material, "publicKey", "public_key")?.get("hint")?.as_str());
    BundleClaims {
        signer: certificate.and_then(|der| identity(&der)).or_else(|| key.map(key_name)),
        predicate_type: predicate_type(&bundle),
    }
}

/// Returns whether a predicate type is that of an image signature.
pub(crate) fn signs_an_image(predicate_type: &str) -> bool {
    predicate_type == sigstore_bundle::PREDICATE_TYPE
}

fn predicate_type(bundle: &Value) -> Option<String> {
    let payload = member(bundle, "dsseEnvelope", "dsse_envelope")?.get("payload")?.as_str()?;
    let statement = json::parse(&STANDARD.decode(payload).ok()?).ok()?;
    statement.get("predicateType")?.as_str().map(str::to_owned)
}

/// Protobuf's JSON has two spellings of each name.
fn member<'a>(value: &'a Value, camel: &str, snake: &str) -> Option<&'a Value> {
    value.get(camel).or_else(|| value.get(snake))
}

/// Returns a key's name: cosign's hint is the SHA-256 of its SPKI in base64, as fingerprints are made here.
fn key_name(hint: &str) -> String {
    match STANDARD.decode(hint) {
        Ok(hash) if hash.len() == 32 => format!("key {}", short(&hex::encode(hash))),
        _ => format!("key {hint}"),
    }
}

/// Returns the identity in a certificate, with the issuer of that identity if it is named.
fn identity(certificate: &[u8]) -> Option<String> {
    let mut certificate = Der(Der(certificate).take(SEQUENCE)?);
    let mut to_be_signed = Der(certificate.take(SEQUENCE)?);
    let extensions = loop {
        let (tag, content) = to_be_signed.next()?;
        if tag == EXTENSIONS {
            break Der(content).take(SEQUENCE)?;
        }
    };
    let (mut name, mut issuer) = (None, None);
    let mut extensions = Der(extensions);
    while let Some((SEQUENCE, extension)) = extensions.next() {
        let mut extension = Der(extension);
        let id = extension.take(OBJECT_IDENTIFIER)?;
        let value = extension.find(OCTET_STRING)?;
        match id {
            SUBJECT_ALT_NAME => name = alternative_name(value),
            ISSUER => issuer = Der(value).take(UTF8_STRING).and_then(text),
            ISSUER_V1 => issuer = issuer.or_else(|| text(value)),
            _ => {}
        }
    }
    let name = name?;
    Some(match issuer {
        Some(issuer) => format!("{name} (issuer {issuer})"),
        None => name,
    })
}

/// Returns the first address, URL or host name in a `subjectAltName`.
fn alternative_name(value: &[u8]) -> Option<String> {
    let mut names = Der(Der(value).take(SEQUENCE)?);
    while let Some((tag, content)) = names.next() {
        if [EMAIL, DNS_NAME, URL].contains(&tag) {
            return text(content);
        }
    }
    None
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const SEQUENCE: u8 = 0x30;
/// `[1]`, `[2]` and `[6]` of a GeneralName (RFC 5280, section 4.2.1.6).
const EMAIL: u8 = 0x81;
const DNS_NAME: u8 = 0x82;
const URL: u8 = 0x86;
/// `[3]` of a TBSCertificate.
const EXTENSIONS: u8 = 0xa3;

/// The elements in DER content, one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Returns tag and content of the next element; none at the end, and for content that is not DER.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let [tag, first, rest @ ..] = self.0 else { return None };
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                (bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }

    /// Returns the content of the next element, which must have this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// Returns the content of the first element with this tag.
    fn find(&mut self, tag: u8) -> Option<&'a [u8]> {
        while let Some((found, content)) = self.next() {
            if found == tag {
                return Some(content);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], &length[..], content].concat()
    }

    fn extension(id: &[u8], value: &[u8]) -> Vec<u8> {
        let parts = [element(OBJECT_IDENTIFIER, id), element(0x01, &[0xff]), element(OCTET_STRING, value)];
        element(SEQUENCE, &parts.concat())
    }

    /// The frame of a certificate around these extensions.
    fn certificate(extensions: &[Vec<u8>]) -> Vec<u8> {
        let serial = element(0x02, &[1]);
        let extensions = element(EXTENSIONS, &element(SEQUENCE, &extensions.concat()));
        element(SEQUENCE, &element(SEQUENCE, &[serial, extensions].concat()))
    }

    fn named(tag: u8, name: &str) -> Vec<u8> {
        extension(SUBJECT_ALT_NAME, &element(SEQUENCE, &element(tag, name.as_bytes())))
    }

    #[test]
    fn a_certificate_names_its_identity_and_the_issuer() {
        let both = certificate(&[
            named(URL, "https://example.com/build"),
            extension(ISSUER, &element(UTF8_STRING, b"https://issuer.example.com")),
        ]);
        let expected = "https://example.com/build (issuer https://issuer.example.com)";
        assert_eq!(identity(&both).as_deref(), Some(expected));
        let old = certificate(&[extension(ISSUER_V1, b"https://old.example.com"), named(EMAIL, "ann@example.com")]);
        assert_eq!(identity(&old).as_deref(), Some("ann@example.com (issuer https://old.example.com)"));
        assert_eq!(identity(&certificate(&[named(0x87, "an address")])), None);
        for end in 0..both.len() {
            assert_eq!(identity(&both[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn a_layer_names_the_identity_of_its_certificate() {
        let mut layer = Descriptor::of(MediaType::OCTET_STREAM, b"payload");
        assert_eq!(of_layer(&layer), None);
        let text = pem::encode("CERTIFICATE", &certificate(&[named(EMAIL, "ann@example.com")]));
        layer.annotations.insert(CERTIFICATE.into(), text);
        assert_eq!(of_layer(&layer).as_deref(), Some("ann@example.com"));
    }

    #[test]
    fn a_bundle_names_its_key_or_its_certificate_and_its_predicate() {
        let payload = STANDARD.encode(r#"{"predicateType":"https://slsa.dev/provenance/v1"}"#);
        let with = |material: &str| {
            let envelope = format!(r#""dsseEnvelope":{{"payload":"{payload}"}}"#);
            of_bundle(format!(r#"{{"verificationMaterial":{material},{envelope}}}"#).as_bytes())
        };
        let found = with(&format!(r#"{{"publicKey":{{"hint":"{}"}}}}"#, STANDARD.encode([0xab; 32])));
        assert_eq!(found.signer.as_deref(), Some("key abababababab"));
        assert_eq!(found.predicate_type.as_deref(), Some("https://slsa.dev/provenance/v1"));
        assert_eq!(with(r#"{"publicKey":{"hint":"mine"}}"#).signer.as_deref(), Some("key mine"));
        let raw = STANDARD.encode(certificate(&[named(DNS_NAME, "build.example.com")]));
        for material in [
            format!(r#"{{"certificate":{{"rawBytes":"{raw}"}}}}"#),
            format!(r#"{{"x509_certificate_chain":{{"certificates":[{{"raw_bytes":"{raw}"}}]}}}}"#),
        ] {
            assert_eq!(with(&material).signer.as_deref(), Some("build.example.com"), "{material}");
        }
        assert_eq!(of_bundle(b"[]"), BundleClaims::default());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = (identity(&bytes), of_bundle(&bytes));
        }
    }
}
