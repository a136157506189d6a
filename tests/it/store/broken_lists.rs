//! Lists whose next page has an unusual Link: the whole list, or a failure.

use autonomy_registry::error::Kind;
use autonomy_registry::oci::Digest;
use autonomy_registry::store::{Listing, Registry, Role};

use crate::kit::wire_server::{Asked, Server, answer, client};

/// A registry whose lists have two pages; the first names the second in this way.
async fn paged(link: &'static str) -> Server {
    Server::start(move |asked: &Asked| {
        let is_second = asked.line.contains("page=2");
        let link: &[(&str, &str)] = if is_second { &[] } else { &[("link", link)] };
        let body = match asked.line.contains("/tags/") || asked.line.contains("_tags") {
            true => format!(r#"{{"name":"a","tags":["v{}"]}}"#, 1 + u8::from(is_second)),
            false => r#"{"schemaVersion":2,"manifests":[]}"#.to_owned(),
        };
        answer(200, link, body)
    })
    .await
}

fn source(server: &Server) -> Registry {
    Registry::new(&client(), &server.repository("a"), Role::Source)
}

#[tokio::test]
async fn a_list_goes_on_at_a_link_whose_meaning_is_clear() {
    for link in [
        "</v2/a/tags/list?page=2>; rel=\"next\"",
        "/v2/a/tags/list?page=2; rel=\"next\"",
        "</v2/a/tags/list?page=2>; rel='next'",
        "</v2/a/tags/list?page=2>; rel=next",
        "<?page=2>; rel=next",
        "list?page=2;rel=next",
    ] {
        let server = paged(link).await;
        let tags = source(&server).tags().await.unwrap();
        assert_eq!(tags.iter().map(ToString::to_string).collect::<Vec<_>>(), ["v1", "v2"], "{link}");
        assert_eq!(server.lines().len(), 2, "{link}");
    }
}

#[tokio::test]
async fn a_list_fails_at_a_link_that_cannot_be_read_or_gone_to() {
    let subject = Digest::sha256(b"subject");
    for link in [
        "</v2/a/tags/list?page=2",
        "/v2/a/tags/list?page=2",
        "</v2/a/tags/list?page=2>",
        "</v2/a/tags/list?page=2>; rel=\"next",
        "<http://127.0.0.1:9/v2/a/tags/list?page=2>; rel=next",
        "<ftp://127.0.0.1/?page=2>; rel=next",
    ] {
        let server = paged(link).await;
        let source = source(&server);
        let error = source.tags().await.unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.chain().contains("the list"), "{link}: {}", error.chain());
        let error = source.referrers(&subject).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{link}: {}", error.chain());
        assert_eq!(server.lines().len(), 2, "{link}");
    }
}
