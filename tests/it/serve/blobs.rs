//! Blobs: uploads, mounts and downloads, and content that must never become a blob.

use std::io::Write as _;
use std::time::Duration;

use autonomy_registry::oci::{Algorithm, Descriptor, Digest, Hasher, MediaType};
use autonomy_registry::serve::testkit::Testbed;
use reqwest::Method;

use crate::kit::asking::{Asking, code, header};

#[tokio::test]
async fn a_blob_comes_in_in_every_way_that_the_specification_knows() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let bytes: Vec<u8> = (0..1_200_003_u32).map(|n| (n % 249) as u8).collect();
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(&bytes);
    let sizes = format!("0-{}", bytes.len() - 1);
    for (way, digest) in ["post", "put", "patch", "range", "unannounced"]
        .into_iter()
        .flat_map(|way| [(way, Digest::sha256(&bytes)), (way, hasher.clone().finish())])
    {
        let path = format!("blobs/{digest}");
        let closed = if way == "post" {
            asking.send(Method::POST, &format!("blobs/uploads/?digest={digest}"), &[], &bytes).await
        } else {
            let mut location = asking.begin().await;
            let mut rest = &bytes[..];
            if way != "put" {
                let headers: &[_] = if way == "range" { &[("content-range", sizes.as_str())] } else { &[] };
                let taken = asking.send(Method::PATCH, &location, headers, &bytes).await;
                assert_eq!((taken.status().as_u16(), header(&taken, "range")), (202, sizes.clone()));
                (location, rest) = (header(&taken, "location"), &[]);
            }
            asking.send(Method::PUT, &format!("{location}?digest={digest}"), &[], rest).await
        };
        assert_eq!(closed.status(), 201, "{way} {digest}");
        assert_eq!(header(&closed, "docker-content-digest"), digest.to_string());
        let back = asking.get(&header(&closed, "location")).await;
        assert_eq!(header(&back, "content-length"), bytes.len().to_string());
        assert!(back.bytes().await.unwrap() == bytes, "{way}");
        let head = asking.send(Method::HEAD, &path, &[], b"").await;
        assert_eq!((head.status().as_u16(), header(&head, "content-length")), (200, bytes.len().to_string()));
        assert_eq!(asking.send(Method::DELETE, &path, &[], b"").await.status(), 202);
        assert_eq!(code(asking.get(&path).await).await, (404, "BLOB_UNKNOWN".into()));
    }
    assert_eq!(std::fs::read_dir(server.data_dir().join("uploads")).unwrap().count(), 0, "sessions leave nothing");
}

#[tokio::test]
async fn a_blob_is_handed_out_in_parts() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let path = format!("blobs/{}", asking.push_blob(b"0123456789").await);
    for (range, status, told, body) in [
        ("bytes=2-4", 206, "bytes 2-4/10", "234"),
        ("bytes=7-", 206, "bytes 7-9/10", "789"),
        ("bytes=-2", 206, "bytes 8-9/10", "89"),
        ("bytes=10-", 416, "bytes */10", ""),
        ("bytes=0-1,4-5", 200, "", "0123456789"),
    ] {
        let answer = asking.send(Method::GET, &path, &[("range", range)], b"").await;
        assert_eq!((answer.status().as_u16(), header(&answer, "content-range").as_str()), (status, told), "{range}");
        assert_eq!(answer.text().await.unwrap(), body, "{range}");
    }
    let answer = asking.send(Method::GET, &path, &[("range", "bytes=2-4"), ("if-range", "\"other\"")], b"").await;
    assert_eq!(answer.status(), 200, "a part of something else is of no use");
}

#[tokio::test]
async fn wrong_bytes_never_become_a_blob() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let digest = Digest::sha256(b"right");
    let location = asking.begin().await;
    let refused = asking.send(Method::PUT, &format!("{location}?digest={digest}"), &[], b"wrong").await;
    assert_eq!(code(refused).await, (400, "DIGEST_INVALID".into()));
    let refused = asking.send(Method::POST, &format!("blobs/uploads/?digest={digest}"), &[], b"wrong").await;
    assert_eq!(code(refused).await, (400, "DIGEST_INVALID".into()));
    for text in ["sha256:../../x", "md5:d41d8cd98f00b204e9800998ecf8427e", ""] {
        let location = asking.begin().await;
        let refused = asking.send(Method::PUT, &format!("{location}?digest={text}"), &[], b"").await;
        assert_eq!(code(refused).await, (400, "DIGEST_INVALID".into()), "{text}");
    }
    assert_eq!(asking.get(&format!("blobs/{digest}")).await.status(), 404);
    let (node, wrong) = (Descriptor::of(MediaType::OCI_INDEX, b"{}"), r#"{"manifests":[]}"#);
    let refused = asking.put_manifest(&node.digest.to_string(), &MediaType::OCI_INDEX, wrong).await;
    assert_eq!(code(refused).await, (400, "DIGEST_INVALID".into()));
}

#[tokio::test]
async fn chunks_come_in_order_or_not_at_all() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let location = asking.begin().await;
    let chunk = async |range: &'static str, bytes: &'static [u8]| {
        asking.send(Method::PATCH, &location, &[("content-range", range)], bytes).await
    };
    assert_eq!(chunk("0-3", b"abcd").await.status(), 202);
    for (range, bytes) in [("0-3", &b"abcd"[..]), ("5-7", b"fgh"), ("3-4", b"de")] {
        let refused = chunk(range, bytes).await;
        assert_eq!((refused.status().as_u16(), header(&refused, "range").as_str()), (416, "0-3"), "{range}");
    }
    assert_eq!(code(chunk("4-9", b"ef").await).await, (400, "SIZE_INVALID".into()));
    assert_eq!(code(chunk("bytes 4-5", b"ef").await).await, (400, "BLOB_UPLOAD_INVALID".into()));
    let status = asking.get(&location).await;
    assert_eq!((status.status().as_u16(), header(&status, "range").as_str()), (204, "0-3"));
    assert_eq!(header(&status, "location"), location);
    let path = format!("{location}?digest={}", Digest::sha256(b"abcdef"));
    assert_eq!(asking.send(Method::PUT, &path, &[("content-range", "9-10")], b"ef").await.status(), 416);
    assert_eq!(asking.send(Method::PUT, &path, &[("content-range", "4-5")], b"ef").await.status(), 201);
    assert_eq!(asking.get(&location).await.status(), 404, "a closed session is over");
    let location = asking.begin().await;
    assert_eq!(asking.send(Method::DELETE, &location, &[], b"").await.status(), 204);
    assert_eq!(code(asking.get(&location).await).await, (404, "BLOB_UPLOAD_UNKNOWN".into()));
    let elsewhere = asking.begin().await.replace("/v2/app/", "/v2/other/");
    assert_eq!(asking.get(&elsewhere).await.status(), 404, "a session belongs to its repository");
}

#[tokio::test]
async fn an_upload_goes_on_where_a_lost_connection_left_it() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let bytes: Vec<u8> = (0..900_000_u32).map(|n| (n % 241) as u8).collect();
    let location = asking.begin().await;
    {
        let mut connection = std::net::TcpStream::connect(server.host()).unwrap();
        write!(connection, "PATCH {location} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", bytes.len())
            .unwrap();
        connection.write_all(&bytes[..600_000]).unwrap();
    }
    let mut offset = 0;
    for _ in 0..200 {
        let status = asking.get(&location).await;
        offset = header(&status, "range").strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
        if offset == 600_000 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(offset, 600_000, "everything that arrived counts");
    let range = format!("{offset}-{}", bytes.len() - 1);
    let taken = asking.send(Method::PATCH, &location, &[("content-range", &range)], &bytes[offset..]).await;
    assert_eq!(taken.status(), 202);
    let path = format!("{location}?digest={}", Digest::sha256(&bytes));
    assert_eq!(asking.send(Method::PUT, &path, &[], b"").await.status(), 201);
}

#[tokio::test]
async fn a_blob_is_mounted_without_being_sent() {
    let server = Testbed::start().await;
    let (from, to) = (Asking::of(&server, "from"), Asking::of(&server, "to"));
    let digest = from.push_blob(b"shared layer").await;
    let mount = async |asking: &Asking, query: String| {
        let answer = asking.send(Method::POST, &format!("blobs/uploads/?mount={query}"), &[], b"").await;
        (answer.status().as_u16(), header(&answer, "location"))
    };
    let (status, location) = mount(&to, format!("{digest}&from=from")).await;
    assert_eq!((status, location), (201, format!("/v2/to/blobs/{digest}")));
    assert_eq!(to.get(&format!("blobs/{digest}")).await.text().await.unwrap(), "shared layer");
    assert_eq!(mount(&from, format!("{digest}&from=from")).await.0, 201, "the same repository, and it holds it");
    let absent = Digest::sha256(b"absent");
    for query in [
        format!("{absent}&from=from"),
        format!("{absent}&from=to"),
        format!("{digest}&from=nowhere"),
        digest.to_string(),
    ] {
        let other = Asking::of(&server, "third");
        let (status, location) = mount(&other, query.clone()).await;
        assert_eq!(status, 202, "{query}");
        let bytes = b"sent after all";
        let path = format!("{location}?digest={}", Digest::sha256(bytes));
        assert_eq!(other.send(Method::PUT, &path, &[], bytes).await.status(), 201, "the session takes the bytes");
    }
}
