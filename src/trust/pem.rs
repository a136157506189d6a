//! PEM (RFC 7468): the text form of keys. One block a file; text around it is ignored.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Largest key file that is looked at, in bytes. RSA-4096 takes 800.
pub(crate) const MAX_BYTES: usize = 64 << 10;

/// The label and the content of the one block in `text`; or why there is none, in words.
pub(crate) fn decode(bytes: &[u8]) -> Result<(&str, Vec<u8>), String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not PEM text".to_owned())?;
    let (label, rest) = begin(text).ok_or_else(|| "it is not PEM text".to_owned())?;
    let (body, after) =
        rest.split_once(&format!("-----END {label}-----")).ok_or_else(|| format!("its {label} block has no end"))?;
    if begin(after).is_some() {
        return Err("it holds more than one block; give one file a key".to_owned());
    }
    let body: String = body.split_ascii_whitespace().collect();
    let content = STANDARD.decode(body).map_err(|why| format!("its {label} block is not base64: {why}"))?;
    Ok((label, content))
}

fn begin(text: &str) -> Option<(&str, &str)> {
    text.split_once("-----BEGIN ")?.1.split_once("-----")
}

/// Writes one block, 64 characters a line.
pub(crate) fn encode(label: &str, content: &[u8]) -> String {
    let body = STANDARD.encode(content);
    let mut text = format!("-----BEGIN {label}-----\n");
    for at in (0..body.len()).step_by(64) {
        text.push_str(&body[at..body.len().min(at + 64)]);
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(content in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let text = format!("a comment\n{}trailing", encode("PUBLIC KEY", &content));
            proptest::prop_assert_eq!(decode(text.as_bytes()).unwrap(), ("PUBLIC KEY", content));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "(-----|BEGIN |END |PUBLIC KEY|\n|[A-Za-z0-9+/=]|\\PC){0,20}") {
            let _ = decode(text.as_bytes());
        }
    }

    #[test]
    fn two_blocks_in_one_file_are_refused() {
        let one = encode("PUBLIC KEY", b"x");
        assert!(decode(format!("{one}{one}").as_bytes()).unwrap_err().contains("more than one"));
        assert!(decode(&vec![b'a'; MAX_BYTES + 1]).is_err());
    }
}
