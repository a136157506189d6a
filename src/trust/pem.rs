//! PEM (RFC 7468): the text form of keys. One block a file; text around it is ignored.

use pem::{EncodeConfig, LineEnding, Pem};

/// Largest key file that is read, in bytes. RSA-4096 takes 800.
pub(crate) const MAX_BYTES: usize = 64 << 10;

/// Returns the label and the content of the one block in `bytes`, or the reason why there is none, in words.
pub(crate) fn decode(bytes: &[u8]) -> Result<(String, Vec<u8>), String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    match text.matches("-----BEGIN ").count() {
        0 => return Err("it is not PEM text".to_owned()),
        1 => {}
        // The crate would pass over a second block that has no end.
        _ => return Err("it holds more than one block; give one file a key".to_owned()),
    }
    // The crate takes lines before a blank one as headers (RFC 1421). RFC 7468 allows no headers, and blank lines anywhere.
    let text: String = text.lines().filter(|line| !line.trim().is_empty()).flat_map(|line| [line, "\n"]).collect();
    let block = pem::parse(text).map_err(|why| format!("its PEM block is not readable: {why}"))?;
    Ok((block.tag().to_owned(), block.into_contents()))
}

/// Writes one block, 64 characters a line.
pub(crate) fn encode(label: &str, content: &[u8]) -> String {
    pem::encode_config(&Pem::new(label, content), EncodeConfig::new().set_line_ending(LineEnding::LF))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(content in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let text = format!("a comment\n{}trailing", encode("PUBLIC KEY", &content));
            proptest::prop_assert_eq!(decode(text.as_bytes()).unwrap(), ("PUBLIC KEY".to_owned(), content));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "(-----|BEGIN |END |PUBLIC KEY|\n|[A-Za-z0-9+/=]|\\PC){0,20}") {
            let _ = decode(text.as_bytes());
        }
    }

    #[test]
    fn odd_forms_of_one_block_are_read() {
        let content: Vec<u8> = (0..=255).collect();
        let usual = encode("PUBLIC KEY", &content);
        assert!(usual.starts_with("-----BEGIN PUBLIC KEY-----\nAAECAw") && usual.lines().all(|line| line.len() <= 64));
        let (body, lines) = (STANDARD.encode(&content), usual.lines().collect::<Vec<_>>());
        for odd in [
            usual.replace('\n', "\r\n"),
            usual.trim_end().to_owned(),
            format!("Key of the site\n---\n\n{usual}\nend of file\n"),
            lines.iter().map(|line| format!("\t  {line} \n")).collect(),
            format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----"),
            format!("-----BEGIN PUBLIC KEY-----\n{}\n\n{}\n-----END PUBLIC KEY-----", &body[..160], &body[160..]),
            format!("-----BEGIN PUBLIC KEY-----\r\n\r\n{body}\r\n\r\n-----END PUBLIC KEY-----\r\n"),
        ] {
            assert_eq!(decode(odd.as_bytes()), Ok(("PUBLIC KEY".to_owned(), content.clone())), "{odd}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for (wrong, why) in [
            ("", "it is not PEM text"),
            ("-----BEGIN X-----\neA==\n", "malformedframing"),
            ("-----BEGIN X-----\neA==\n-----END Y-----\n", "mismatching"),
            ("-----BEGIN X-----\ne!==\n-----END X-----\n", "invalid data"),
            ("-----BEGIN X-----\nProc-Type: 4,ENCRYPTED\n\neA==\n-----END X-----\n", "invalid data"),
        ] {
            assert!(decode(wrong.as_bytes()).unwrap_err().contains(why), "{wrong}: {:?}", decode(wrong.as_bytes()));
        }
        assert_eq!(decode(b"-----BEGIN X-----\n\xff").unwrap_err(), "it is not PEM text");
    }

    #[test]
    fn two_blocks_in_one_file_are_refused() {
        let one = encode("PUBLIC KEY", b"x");
        assert!(decode(format!("{one}-----BEGIN X-----\n").as_bytes()).unwrap_err().contains("more than one"));
        assert!(decode(format!("{one}{one}").as_bytes()).unwrap_err().contains("more than one"));
        assert!(decode(&vec![b'a'; MAX_BYTES + 1]).is_err());
    }
}
