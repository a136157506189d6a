//! RSA keys that are marked for PSS by their algorithm identifier (RFC 4055, section 1.2).
//!
//! The mark is the operator's statement that a key signs with PSS; a signature cannot choose it. Without its mark such
//! a key is an ordinary RSA key, and is checked as one.

/// `id-RSASSA-PSS` as openssl writes it: without parameters, or bound to SHA-256, MGF1 with SHA-256 and a salt of 32
/// bytes. Keys with any other binding are not supported.
const MARKS: [&[u8]; 2] = [
    b"\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a",
    b"\x30\x41\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x34\xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\
      \xa1\x1c\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\
      \xa2\x03\x02\x01\x20",
];
/// `rsaEncryption`.
const PLAIN: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

/// Returns the SPKI of the same key without its mark; none if `spki` has no mark. Checks nothing else about the key.
pub(super) fn unmarked(spki: &[u8]) -> Option<Vec<u8>> {
    let key = MARKS.iter().find_map(|mark| content(spki)?.strip_prefix(*mark))?;
    let length = u16::try_from(PLAIN.len() + key.len()).ok()?;
    Some([&[0x30, 0x82], &length.to_be_bytes()[..], PLAIN, key].concat())
}

/// Returns the content of a DER sequence of 256 bytes to 64 KiB: every RSA key that is long enough to be trusted has
/// that size.
fn content(der: &[u8]) -> Option<&[u8]> {
    let (length, content) = der.strip_prefix(&[0x30, 0x82])?.split_first_chunk()?;
    (usize::from(u16::from_be_bytes(*length)) == content.len()).then_some(content)
}
