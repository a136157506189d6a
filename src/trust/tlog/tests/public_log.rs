//! Real entries of the public Rekor.

use super::*;

/// The public Rekor's key.
const PUBLIC_LOG: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2G2Y+2tabdTV5BcGiBIx0a9fAFwrkBbmLSGtks4L3qX6yYY0zufBnhC8Ur/iy55GhWP/9A/bY2LhC30M9+RYtw==";

fn key_of(spki: &str) -> PublicKey {
    let der = STANDARD.decode(spki).unwrap();
    PublicKey::from_pem(crate::trust::pem::encode("PUBLIC KEY", &der).as_bytes()).unwrap()
}

#[test]
fn entries_of_the_public_log_are_believed() {
    let log = key_of(PUBLIC_LOG);
    let id = "wNI9atQGlz+VWfO6LRygH4QUfY/8W4RFwiT5i5WRgB0=";
    assert_eq!(STANDARD.encode(Digest::sha256(log.spki()).as_bytes()), id);
    // Entry 771488337, of a managed key's signature.
    let signer = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAExRRST79+PsrRBnGAI4cMu6Omz2JhfwlMW+gIutNKVRaMyS4rQKvgngc5p8UbLj55pVHhIoAxi/SRgURZI0J3Xw==";
    let signature = "MEUCIQCACfhpIX3+zVXJjwEeIS0yFTK2jRfBjduXAaLHJSARHAIgSUdTM+S5xucODRFtrGHN2uClS0MRPhqZm76g0ZHEQ5c=";
    let signer = key_of(signer);
    let pem = STANDARD.encode(crate::trust::pem::encode("PUBLIC KEY", signer.spki()));
    let hash = "a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf";
    let body = format!(
        r#"{{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{{"data":{{"hash":{{"algorithm":"sha256","value":"{hash}"}}}},"signature":{{"content":"{signature}","publicKey":{{"content":"{pem}"}}}}}}}}"#
    );
    let root = "rnpacIXSjoToEDh0qD4CLAKdkPnW1Y4R1DhFMS+AGlI=";
    let entry = json!({
        "logIndex": "771488337",
        "logId": {"keyId": id},
        "kindVersion": {"kind": "hashedrekord", "version": "0.0.1"},
        "integratedTime": "1766077479",
        "inclusionPromise": {"signedEntryTimestamp": "MEQCIDCmqrzKHm8Y9CvXE/AzDdOfHGBUyWV9Pw0/qN2CJp2sAiAbgHsHGonTsf+F2DH1RYaTibMDseyHs40JpXEILqOmnw=="},
        "inclusionProof": {
            "logIndex": "649584075",
            "rootHash": root,
            "treeSize": "649584076",
            "hashes": [
                "ysxPntoDCEDAQGR1QIbE4DwK5KtnNrdkP22LEmq0lCI=",
                "5L/j534P74+X9f1bKGD2ouVQTSovoYs0WIkaVRPU7qo=",
                "qV76JElCF4u3bOiOyc1qcDaB+DkslLz5nHYGidQVo+Y=",
                "9nQ2ljbrnOoHSTFZ+QAYzLBgpn5GnrdhWDTJKbu6rdQ=",
                "PT3BZO6cowZTOIdS7Q+VjsLhTaG5HzOWu0bv8vMYIfk=",
                "HcqMiN25hc8ZUCBew9lvG2+zKFgoLvHRSDjNgGq3zQo=",
                "VVrBAbUxuRzfJrFDnkO3eA1pNx2TzdzYXUX8W0I0fLI=",
                "+u3A5DxrSUlRNTIG2zzsY16wqhTkjwbV87U73Tx01Mk=",
                "62eoAzDuXumnjn9cQbOYOWC0H1RF/IDsJKN4viZIPBg=",
                "v9ojnCvHyXhEVzD4YBwzBTdh1xD+u4mzJhfBy7iLlgQ=",
                "xjjjrVAxe7hCw3eOOh7Jm/0BWcSz9488mipK76YAtEI=",
                "24F9NpuXQDgiqdvTOxpt+GTAgLdl6AGn0qojVt6Gw9Q=",
                "P0nOHKpilXSm6eoy205KeX7NWkDCMVUXPXgj1uhL4jI=",
                "FPFGsuPsOXI/nrQA9QlZsNyJqmZlTr0iM5RmdliCy68=",
                "sFJGvFu7SmwuQoaak3Kwc3SA5lCMjhsEWRnHgcO8H48=",
                "tKXr5b5IEBPdgnavJ7fklBhTZyG9KxxUnE8csX65eu0=",
                "93sxEgzO/g7cGQ4i2ytPJwSJ4GZahSoQFyDF1LZQPeY=",
                "X6vkxz0poxK2DIlRur/7LbEdz3iDXj5QY/gLk/ewXjA=",
                "ZmUkYkHBy1B723JrEgiKvepTdHYrP6y2a4oODYvi5VY=",
                "T4DqWD42hAtN+vX8jKCWqoC4meE4JekI9LxYGCcPy1M=",
            ],
            "checkpoint": {"envelope": format!("rekor.sigstore.dev - 1193050959916656506\n649584076\n{root}\n\n\u{2014} rekor.sigstore.dev wNI9ajBFAiB+dI3iNRQRRAEwq+BzKTSdPsCKz/m9BkbkJhT9TXRKxQIhANcH3cgUq9pObcC7hQct9sqjd4ZW54GyCHRXiLC8FF17\n")},
        },
        "canonicalizedBody": STANDARD.encode(&body),
    });
    let entry = Entry::from_bundle(&entry).unwrap();
    assert!(entry.is_of(&log));
    entry.vouched(&log).unwrap();
    // Signature and key are those of the entry; the signed content is not available here.
    let signature = STANDARD.decode(signature).unwrap();
    let signed = Signed { key: &signer, signature: &signature, message: b"", enveloped: None };
    assert!(entry.check(&log, &signed).unwrap_err().to_string().contains("other content"));

    // Entry 783606, as cosign 1 annotated a signature with it: a promise alone.
    let pem = "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KTUZrd0V3WUhLb1pJemowQ0FRWUlLb1pJemowREFRY0RRZ0FFTEtoRDdGNU9LeTc3WjU4Mlk2aDB1MUozR05BKwprdlVzaDRlS3BkMWx3a0RBemZGRHM3eVhFRXhzRWtQUHVpUUpCZWxEVDY4bjdQRElXQi9RRVk3bXJBPT0KLS0tLS1FTkQgUFVCTElDIEtFWS0tLS0tCg==";
    let signature = "MEYCIQDWWxPQa3XFUsPbyTY+n+bZu/6Pwhg5WwyYDQtEfQho9wIhAPkKW7eub8b7BX+YbbRac8TwwIrK5KxvdtQ6NuoD+ivW";
    let hash = "3af4414d20c9e1cb76ccc72aae8b242166dabe6af531a4a790db8e2f0e5ee7c9";
    let body = format!(
        r#"{{"apiVersion":"0.0.1","kind":"rekord","spec":{{"data":{{"hash":{{"algorithm":"sha256","value":"{hash}"}}}},"signature":{{"content":"{signature}","format":"x509","publicKey":{{"content":"{pem}"}}}}}}}}"#
    );
    let annotation = json!({
        "SignedEntryTimestamp": "MEUCIDx9M+yRpD0O47/Mzm8NAPCbtqy4uiTkLWWexW0bo4jZAiEA1wwueIW8XzJWNkut5y9snYj7UOfbMmUXp7fH3CzJmWg=",
        "Payload": {"body": STANDARD.encode(body), "integratedTime": 1_634_714_179, "logIndex": 783_606, "logID": hex::encode(STANDARD.decode(id).unwrap())},
    });
    let entry = Entry::from_annotation(&annotation.to_string()).unwrap();
    assert!(entry.is_of(&log));
    entry.vouched(&log).unwrap();
}
