use std::collections::HashSet;

use super::*;

const GOOD: &str = r#"# What the site gets.
version: 1
entries:
  - from: registry.upstream.example.com/robot-behavior:v1
    to:   localhost:5000/robot-behavior:v1
    copy_policy: true
    pub_key: &key ./cosign.pub
  - from: registry.upstream.example.com/nav-stack:v2
    to:   localhost:5000/nav-stack
    pub_key: *key
    platforms: [linux/amd64, linux/arm/v7]
    accessories: root
    allow_rollback: true
  - from: registry.upstream.example.com/maps
    to: localhost:5000/maps
    tags: ">=1.2, <2"
    latest: 3
  - { from: r.example.com/tools, to: "localhost:5000/tools", tags: [1.10, v2, "latest"] }
  - from: r.example.com/charts
    to: localhost:5000/charts
    tags: v1.*
"#;

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn tags(texts: &[&str]) -> Vec<Tag> {
    texts.iter().map(|text| tag(text)).collect()
}

/// Returns the complete error for `text`, with its hint.
#[track_caller]
fn told(text: &str) -> String {
    let error = Catalog::parse(text).expect_err(text);
    assert_eq!(error.kind(), Kind::Usage, "{text}");
    format!("{} ({})", error.chain(), error.hint_text().unwrap_or_default())
}

/// Returns the error for a catalog of one entry that has `fields` besides from and to.
#[track_caller]
fn told_of(fields: &str) -> String {
    told(&format!("version: 1\nentries:\n  - from: a.io/x:v1\n    to: b.io/x:v1\n    {fields}\n"))
}

/// Returns the error for an entry that chooses tags.
#[track_caller]
fn told_of_choice(fields: &str) -> String {
    told(&format!("version: 1\nentries:\n  - from: a.io/x\n    to: b.io/x\n    {fields}\n"))
}

#[test]
fn a_catalog_says_what_it_says() {
    let entries = Catalog::parse(GOOD).unwrap().entries;
    assert_eq!(entries.iter().map(|entry| entry.line).collect::<Vec<_>>(), [4, 8, 14, 18, 19]);
    assert_eq!(entries[0].from.to_string(), "registry.upstream.example.com/robot-behavior:v1");
    assert_eq!((entries[0].copy_policy, entries[0].pub_key.as_deref()), (true, Some("./cosign.pub")));
    assert_eq!((entries[1].copy_policy, entries[1].pub_key.as_deref()), (false, Some("./cosign.pub")));
    assert_eq!(entries[1].destination().unwrap().to_string(), "localhost:5000/nav-stack:v2");
    let platforms: Vec<_> = entries[1].platforms.iter().map(ToString::to_string).collect();
    assert_eq!(
        (platforms, entries[1].accessories),
        (vec!["linux/amd64".into(), "linux/arm/v7".into()], Some(Accessories::Root))
    );
    assert!(entries[1].allow_rollback && !entries[0].allow_rollback);
    let select = entries[2].select.clone().unwrap();
    assert_eq!((select.which, select.latest), (Which::Range(">=1.2, <2".parse().unwrap()), 3.try_into().ok()));
    let list = Select { which: Which::List(tags(&["1.10", "v2", "latest"])), latest: None };
    assert_eq!(entries[3].select, Some(list), "1.10 stays what was written");
    let pattern = Select { which: Which::Pattern("v1.*".parse().unwrap()), latest: None };
    assert_eq!(entries[4].select, Some(pattern));
    let (from, to) = entries[4].chosen(&tag("v1.2"));
    assert_eq!(
        (from.to_string(), to.to_string()),
        ("r.example.com/charts:v1.2".into(), "localhost:5000/charts:v1.2".into())
    );
}

#[test]
fn the_documented_example_is_a_catalog() {
    let text = "version: 1\nentries:\n  - from: registry.upstream.example.com/robot-behavior:v1\n    to:   localhost:5000/robot-behavior:v1\n    copy_policy: true\n    pub_key: ./cosign.pub\n  - from: registry.upstream.example.com/nav-stack:v2\n    to:   localhost:5000/nav-stack:v2\n    pub_key: ./cosign.pub\n";
    assert_eq!(Catalog::parse(text).unwrap().entries.len(), 2);
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    assert_eq!(Catalog::parse(&windows).unwrap().entries[1].line, 7);
}

#[test]
fn the_catalog_in_the_documentation_is_one() {
    let page = include_str!("../../../docs/catalogs.md");
    let text = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let entries = Catalog::parse(text).unwrap().entries;
    assert_eq!((entries.len(), entries[1].accessories), (2, Some(Accessories::Root)));
    assert!(matches!(entries[1].select, Some(Select { which: Which::Range(_), latest: Some(_) })));
}

#[test]
fn a_slip_is_told_with_its_place_and_the_word_that_was_meant() {
    let lines = [
        ("pubkey: x", "line 5, column 5: unknown key `pubkey` (did you mean `pub_key`?)"),
        ("pub-key: x", "line 5, column 5: unknown key `pub-key` (did you mean `pub_key`?)"),
        ("Platform: [a/b]", "line 5, column 5: unknown key `Platform` (did you mean `platforms`?)"),
        ("tag: x", "line 5, column 5: unknown key `tag` (did you mean `tags`?)"),
        (
            "skip_verify: true",
            "line 5, column 5: unknown key `skip_verify` (the keys here are from, to, tags, latest, copy_policy, pub_key, platforms, accessories, allow_rollback, pinned)",
        ),
        ("to: b.io/y:v1", "line 5, column 5: the key `to` stands twice ()"),
        ("pub_key:", "line 5, column 12: a value is missing here ()"),
        ("pub_key: ''", "line 5, column 14: pub_key: names no file; leave the key out if there is none ()"),
        ("accessories: most", "line 5, column 18: accessories: \"most\" is not one of all, root, none ()"),
        ("platforms: []", "line 5, column 16: platforms: the list is empty; leave the key out to copy all ()"),
        (
            "platforms: [linux]",
            "line 5, column 17: platforms: \"linux\" is not a platform: write os/arch or os/arch/variant, such as linux/arm64 or linux/arm/v7 ()",
        ),
        ("platforms: [a/b, c/d, a/b]", "line 5, column 27: platforms: a/b stands twice ()"),
    ];
    for (fields, expected) in lines {
        assert_eq!(told_of(fields), expected);
    }
}

#[test]
fn values_of_the_wrong_type_are_refused_at_their_place() {
    for fields in [
        "copy_policy: yes",
        "copy_policy: 1",
        "copy_policy:",
        "copy_policy: [true]",
        "pub_key: [x]",
        "pub_key: {a: b}",
        "platforms: linux/amd64",
        "platforms: {}",
        "platforms:",
        "accessories: [all]",
        "accessories:",
        "tags:",
        "latest:",
        "latest: x",
        "latest: -1",
        "latest: 1.5",
        "tags: {a: b}",
        "tags: true",
        "<<: {pub_key: x}",
        "pub_key: !secret x",
        "pub_key: *none",
    ] {
        assert!(told_of(fields).starts_with("line 5, column "), "{fields}: {}", told_of(fields));
    }
    assert!(told_of_choice("tags: 1.2").contains("in quotes"), "{}", told_of_choice("tags: 1.2"));
}

#[test]
fn a_file_that_is_no_catalog_is_refused() {
    for (text, expected) in [
        ("", "line 1, column 1"),
        ("\n\n", "line"),
        ("42", "line 1, column 1"),
        ("[]", "line 1, column 1"),
        ("version: 1\n", "the key `entries` is missing"),
        ("entries: []\n", "the key `version` is missing"),
        ("version: 1\nentries: []\n", "line 2, column 10: entries is empty"),
        ("version: 1\nentries:\n", "line 2, column 8: a list is expected here"),
        ("version: 2\nnew_key: {}\n", "line 1, column 10: version is 2, this program reads catalogs of version 1"),
        ("new_key: {}\nversion: 2\n", "line 2, column 10: version is 2"),
        ("version: 0\nentries: [{from: a.io/x:v1, to: b.io/x:v1}]\n", "version is 0"),
        ("version: one\nentries: []\n", "line 1, column 10"),
        ("version: 1\nversion: 1\nentries: []\n", "line 2, column 1: the key `version` stands twice"),
        ("version: 1\nentries: [\n", "line"),
        ("version: 1\n\tentries: []\n", "found a tab"),
        ("version: 1\nentries: [{to: b.io/x:v1}]\n", "the key `from` is missing"),
        ("version: 1\nentries: [{from: a.io/x:v1, to: b.io/x:v1}]\n---\nversion: 1\n", "line"),
        ("version: 1\nentry: []\n", "line 2, column 1: unknown key `entry`"),
    ] {
        assert!(told(text).contains(expected), "{text:?}: {}", told(text));
        assert!(told(text).starts_with("line "), "{text:?}: {}", told(text));
    }
}

#[test]
fn references_are_told_as_everywhere_else() {
    let entry = |from: &str, to: &str| told(&format!("version: 1\nentries:\n- from: {from}\n  to: {to}\n"));
    assert!(entry("nginx", "b.io/x:v1").starts_with(
        "line 3, column 9: from: the registry's host must be named; write docker.io/library/nginx:latest"
    ));
    assert!(
        entry("a.io/x:v1", "docker://b.io/x")
            .starts_with("line 4, column 7: to: a reference has no scheme; write b.io/x")
    );
    let digest = crate::oci::Digest::sha256(b"");
    assert!(
        entry(&format!("a.io/x@{digest}"), "b.io/x")
            .contains("to needs a tag, because from is a digest (write b.io/x:<tag>)")
    );
    assert!(entry("a.io/x:v1", &format!("b.io/x@{digest}")).contains("a digest cannot be chosen for to"));
    let sidecars = format!("version: 1\nentries: [{{from: a.io/x@{digest}, to: b.io/x:v1, copy_policy: true}}]");
    assert!(
        told(&sidecars).starts_with("line 2, column 11: copy_policy requires tag-based from and to"),
        "{}",
        told(&sidecars)
    );
}

#[test]
fn a_choice_of_tags_and_a_tag_exclude_each_other() {
    assert!(
        told_of("tags: [v2]")
            .starts_with("line 3, column 5: from names a tag or digest, and tags or latest chooses others")
    );
    assert!(told_of("latest: 2").contains("from names a tag or digest"));
    let tagged = "version: 1\nentries:\n- {from: a.io/x, to: b.io/x:v1, tags: [v1]}\n";
    assert!(
        told(tagged).starts_with("line 3, column 3: with tags or latest, to is a repository without a tag"),
        "{}",
        told(tagged)
    );
    for (fields, expected) in [
        ("latest: 0", "line 5, column 13: latest: 0 chooses nothing"),
        ("tags: []", "line 5, column 11: tags: the list is empty"),
        ("tags: [v1, 'v1.*']", "line 5, column 16: tags: \"v1.*\" is not a tag"),
        ("tags: 'v1.[z-a]'", "line 5, column 11: tags: 'z'-'a' is no range"),
        ("tags: 1.2, <2", "no tag holds ','"),
        ("tags: '>=v1'", "is read as a range of versions, which are written without a v"),
        ("tags: '>=1.2 <2'", "line 5, column 11: tags: write \">=1.2, <2\""),
        ("tags: '>=1.2-0'", "tags: write \">=1.2.0-0\""),
        ("tags: 1.2 - 1.4", "tags: write \">=1.2, <=1.4\""),
        ("tags: '1.2.x || 2.x'", "give each alternative an entry of its own"),
        ("tags: ''", "a pattern has 1 to 512 characters"),
        ("tags: [v1, v2, v1]", "b.io/x:v1 is the destination of two images, both of line 3"),
    ] {
        assert!(told_of_choice(fields).contains(expected), "{fields}: {}", told_of_choice(fields));
    }
}

#[test]
fn a_number_that_is_an_x_makes_a_range() {
    let which = |tags: &str| {
        let text = format!("version: 1\nentries: [{{from: a.io/x, to: b.io/x, tags: {tags}}}]");
        Catalog::parse(&text).unwrap().entries.remove(0).select.unwrap().which
    };
    for text in ["1.2.x", "1.x", "x", "'1.2.x, <1.2.7'", "^1.x", "'>=1.2.0-0'"] {
        assert!(matches!(which(text), Which::Range(_)), "{text}");
    }
    for text in ["v1.*", "'*'", "v1.x", "1.*", "x-*"] {
        assert!(matches!(which(text), Which::Pattern(_)), "{text}");
    }
}

#[test]
fn two_images_never_go_under_one_tag() {
    let two = |one: &str, other: &str| {
        told(&format!("version: 1\nentries:\n- {{from: a.io/x:v1, {one}}}\n\n- {{from: a.io/y:v1, {other}}}\n"))
    };
    for (one, other, expected) in [
        ("to: b.io/x:v1", "to: b.io/x:v1", "line 5: b.io/x:v1 is the destination of two images, lines 3 and 5"),
        ("to: b.io/x:v1", "to: b.io/x", "line 5: b.io/x:v1 is the destination of two images, lines 3 and 5"),
        ("to: B.io/x:v1", "to: b.io/x:v1", "lines 3 and 5"),
        ("to: docker.io/x:v1", "to: registry-1.docker.io/library/x:v1", "lines 3 and 5"),
        ("to: docker.io/x:v1", "to: index.docker.io/x:v1", "lines 3 and 5"),
        ("to: b.io:443/x:v1", "to: b.io/x:v1", "b.io/x:v1 is the destination of two images, lines 3 and 5"),
        ("to: b.io:05000/x:v1", "to: b.io:5000/x:v1", "lines 3 and 5"),
        ("to: '[::1]:5000/x:v1'", "to: '[0:0:0:0:0:0:0:1]:5000/x:v1'", "lines 3 and 5"),
        ("to: 127.0.0.1:5000/x:v1", "to: '[::ffff:7f00:1]:5000/x:v1'", "lines 3 and 5"),
        (
            "to: b.io/x:v1, copy_policy: true",
            "to: b.io/x:v1-lock",
            "is the destination of one image and a sidecar of another, lines 3 and 5",
        ),
        (
            "to: b.io/x:v1-policy",
            "to: b.io/x:v1, copy_policy: true",
            "b.io/x:v1-policy is the destination of one image and a sidecar of another",
        ),
    ] {
        assert!(two(one, other).contains(expected), "{}", two(one, other));
    }
    let chosen =
        "version: 1\nentries:\n- {from: a.io/x:v1, to: b.io/x:v1}\n- {from: a.io/y, to: b.io/x, tags: [v0, v1]}\n";
    assert!(told(chosen).contains("b.io/x:v1 is the destination of two images, lines 3 and 4"));
    let without_file = vec![Entry::new("a.io/x:v1".parse().unwrap(), "b.io/x".parse().unwrap()); 2];
    assert_eq!(Catalog::new(without_file).unwrap_err().chain(), "b.io/x:v1 is the destination of two images");
    assert_eq!(Catalog::new(vec![]).unwrap_err().kind(), Kind::Usage);
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    let level = |n: usize| format!("l{n}: &l{n} [{}]\n", vec![format!("*l{}", n - 1); 9].join(", "));
    let levels: String = (1..20).map(level).collect();
    assert!(told(&format!("l0: &l0 x\n{levels}version: 1\n")).starts_with("line "));
    assert!(told(&format!("version: 1\nentries: {}", "[".repeat(100_000))).starts_with("line "));
    assert!(told(&format!("version: 1\nentries: {}", "{a: ".repeat(100_000))).starts_with("line "));
    let nested: String = (0..1000).map(|n| format!("{}- \n", " ".repeat(n))).collect();
    assert!(told(&format!("version: 1\nentries:\n{nested}")).starts_with("line "));
    let aliases = format!("version: 1\nentries:\n- &e {{from: a.io/x:v1, to: b.io/x:v1}}\n{}", "- *e\n".repeat(50_000));
    assert!(told(&aliases).starts_with("line "));
    let long = format!("#{}", "x".repeat(usize::try_from(MAX_CATALOG_BYTES).unwrap()));
    assert!(told(&long).contains("at most 16777216 are read"));
}

#[test]
fn ten_thousand_entries_are_a_catalog_and_more_than_a_hundred_thousand_are_none() {
    let entries = (1..10_000).map(|n| format!("- {{from: a.io/x{n}:v1, to: b.io/x{n}, pub_key: *k}}\n"));
    let text = format!(
        "version: 1\nentries:\n- {{from: a.io/y, to: b.io/y, pub_key: &k k.pub}}\n{}",
        entries.collect::<String>()
    );
    assert_eq!(Catalog::parse(&text).unwrap().entries.len(), 10_000);
    let entry = Entry::new("a.io/x:v1".parse().unwrap(), "b.io/x".parse().unwrap());
    let error = Catalog::new(vec![entry; MAX_ENTRIES + 1]).unwrap_err();
    assert_eq!(error.chain(), "100001 entries, at most 100000 are taken");
}

/// A deterministic source of choices.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

fn damaged(dice: &mut Dice) -> String {
    const ODD: [&str; 24] = [
        "\t",
        ":",
        "- ",
        "? ",
        "&a ",
        "*a",
        "*key",
        "!!str ",
        "!x ",
        "|",
        ">",
        "'",
        "\"",
        "[",
        "]",
        "{",
        "}",
        "#",
        "---\n",
        "<<: *key\n",
        "\0",
        "\u{2028}",
        "99999999999999999999",
        "~",
    ];
    let mut text = GOOD.to_owned();
    for _ in 0..=dice.below(3) {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let (one, other) = (dice.below(lines.len()), dice.below(lines.len()));
        let place = |dice: &mut Dice, text: &str| {
            (0..=dice.below(text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap()
        };
        match dice.below(9) {
            0 => drop(lines.remove(one)),
            1 => lines.insert(other, lines[one].clone()),
            2 => lines.swap(one, other),
            3 => lines[one].insert(0, ' '),
            4 => lines[one] = lines[one].trim_start().to_owned(),
            5 => lines.truncate(one.max(1)),
            6 => {
                let at = place(dice, &lines[one]);
                lines[one].truncate(at);
            }
            7 => lines[one] = lines[one].replacen(char::is_alphabetic, "\u{7}", 1),
            _ => {
                let at = place(dice, &lines[one]);
                lines[one].insert_str(at, ODD[dice.below(ODD.len())]);
            }
        }
        text = lines.join("\n");
        if text.is_empty() {
            break;
        }
    }
    text
}

#[test]
fn a_thousand_damaged_catalogs_are_taken_or_refused_at_a_line_of_theirs() {
    let (mut dice, mut taken, mut shapes) = (Dice(5), 0, HashSet::new());
    while shapes.len() < 1000 {
        let text = damaged(&mut dice);
        if !shapes.insert(text.clone()) {
            continue;
        }
        match Catalog::parse(&text) {
            Ok(_) => taken += 1,
            Err(error) => {
                let told = error.chain();
                let number =
                    told.strip_prefix("line ").and_then(|rest| rest.split([',', ':']).next()?.parse::<usize>().ok());
                assert!(
                    number.is_some_and(|line| (1..=text.lines().count().max(1) + 1).contains(&line)),
                    "{told}\n{text}"
                );
                assert_eq!(error.kind(), Kind::Usage);
            }
        }
    }
    assert!((50..700).contains(&taken), "{taken} of a thousand were taken: the damage does not do much");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(version: 1\nentries:\n)?(\\PC|\n|  |- |: |[&*!|>'\"{}\\[\\]#]){0,60}") {
        if let Err(error) = Catalog::parse(&text) {
            proptest::prop_assert_eq!(error.kind(), Kind::Usage);
        }
    }
}
