#![allow(clippy::indexing_slicing, reason = "a test that fails here says where")]

use proptest::prelude::*;

use super::*;

const KEY: Key = Key(1, 2);

fn text(text: &str) -> Text {
    Text::of(text, 1 << 20, &KEY)
}

fn said(role: Role, parts: Vec<Part>) -> Option<Digest> {
    Message { parts, ..Message::new(role) }.digest(&KEY)
}

fn arguments(json: &str) -> Arguments {
    Arguments { json: text(json), digest: None }
}

fn call(id: Option<&str>, name: &str, json: &str) -> Part {
    Part::ToolCall { id: id.map(Into::into), name: name.into(), arguments: arguments(json) }
}

fn result(id: Option<&str>, name: Option<&str>, said: &str) -> Part {
    Part::ToolResult { id: id.map(Into::into), name: name.map(Into::into), result: arguments(said) }
}

#[test]
fn what_is_kept_is_the_beginning_and_ends_between_characters() {
    let mut text = Text::new(5, &KEY);
    text.push("ab");
    assert!(!text.is_truncated());
    text.push("cdé");
    assert_eq!((text.kept(), text.length(), text.is_truncated()), ("abcd", 6, true));
    // A later one would fit: but then something would be missing before it.
    text.push("f");
    assert_eq!((text.kept(), text.length()), ("abcd", 7));
    let nothing = Text::of("abc", 0, &KEY);
    assert_eq!((nothing.kept(), nothing.held(), nothing.is_truncated()), ("", 0, true));
    assert_eq!(nothing.digest(), Text::of("abc", 9, &KEY).digest());
}

#[test]
fn a_text_with_a_gap_has_no_digest_and_keeps_nothing_behind_the_gap() {
    let mut text = text("ab");
    text.lost();
    text.push("cd");
    assert_eq!((text.kept(), text.digest(), text.is_truncated(), text.is_empty()), ("ab", None, true, false));
    let mut lost = Text::new(9, &KEY);
    lost.lost();
    assert!(!lost.is_empty());
    assert_eq!(said(Role::User, vec![Part::Text(lost)]), None);
}

#[test]
fn the_first_text_that_is_put_behind_nothing_may_be_of_any_length() {
    let long = Text::of("abcdef", 3, &KEY);
    let mut all = Text::new(2, &KEY);
    all.append(&long);
    assert_eq!((all.kept(), all.length(), all.digest()), ("ab", 6, text("abcdef").digest()));
    all.append(&text("gh"));
    assert_eq!((all.kept(), all.digest()), ("ab", text("abcdefgh").digest()));
    all.append(&long);
    assert_eq!(all.digest(), None);
}

#[test]
fn white_space_at_the_end_does_not_count_and_inside_does() {
    assert_eq!(text("a b").digest(), text("a b \n\u{a0}").digest());
    assert_ne!(text("a b").digest(), text("a  b").digest());
    assert_ne!(text("a b").digest(), text(" a b").digest());
    assert!(text(" \n").is_empty() && text("").is_empty() && !text(" a").is_empty());
    assert_eq!(text(" \n").digest(), text("").digest());
}

#[test]
fn reasoning_compaction_and_empty_texts_do_not_change_a_digest() {
    let plain = said(Role::Assistant, vec![Part::Text(text("a"))]);
    let full = vec![
        Part::Reasoning(text("hm")),
        Part::Text(text("")),
        Part::Compaction { id: Some("c".into()), content: None },
        Part::Text(text("a\n")),
        Part::Text(text("  ")),
    ];
    assert_eq!(plain, said(Role::Assistant, full));
    assert!(Message { parts: vec![Part::Reasoning(text("hm"))], ..Message::new(Role::Assistant) }.is_silent());
    assert!(!Message { parts: vec![Part::Text(text("hm"))], ..Message::new(Role::Assistant) }.is_silent());
}

#[test]
fn whatever_differs_has_another_digest() {
    let media = |modality, what| vec![Part::Media { modality, mime: None, what }];
    let canonical =
        |digest| vec![Part::ToolCall { id: None, name: "f".into(), arguments: Arguments { json: text("{}"), digest } }];
    let different = [
        said(Role::User, vec![]),
        said(Role::Assistant, vec![]),
        said(Role::Other("text".into()), vec![]),
        said(Role::System, vec![Part::Text(text("a"))]),
        said(Role::User, vec![Part::Text(text("a"))]),
        said(Role::User, vec![Part::Text(text("ab"))]),
        said(Role::User, vec![Part::Text(text("a")), Part::Text(text("b"))]),
        said(Role::User, vec![Part::Text(text("b")), Part::Text(text("a"))]),
        said(Role::Assistant, vec![call(None, "f", "{}")]),
        said(Role::Assistant, vec![call(Some(""), "f", "{}")]),
        said(Role::Assistant, vec![call(Some("f"), "", "{}")]),
        said(Role::Assistant, vec![call(Some("1"), "f", "{}")]),
        said(Role::Assistant, vec![call(Some("1"), "f", "{\"a\":1}")]),
        said(Role::Assistant, canonical(Some(Digest(7)))),
        said(Role::Tool, vec![result(Some("1"), None, "x")]),
        said(Role::Tool, vec![result(None, Some("1"), "x")]),
        said(Role::Tool, vec![result(None, None, "x")]),
        said(Role::User, media("image", Media::Uri("x".into()))),
        said(Role::User, media("audio", Media::Uri("x".into()))),
        said(Role::User, media("image", Media::File("x".into()))),
        said(Role::User, media("image", Media::Blob(text("x")))),
        said(Role::User, vec![Part::Other("x".into())]),
    ];
    for (index, one) in different.iter().enumerate() {
        assert!(one.is_some(), "{index}");
        assert!(!different[index + 1..].contains(one), "{index}");
    }
}

#[test]
fn a_results_name_says_nothing_where_it_has_an_id_and_another_key_makes_another_digest() {
    let named = said(Role::Tool, vec![result(Some("1"), Some("f"), "x")]);
    assert_eq!(named, said(Role::Tool, vec![result(Some("1"), None, "x")]));
    assert_ne!(Text::of("a", 9, &Key(1, 3)).digest(), text("a").digest());
    assert_ne!(Key::random(), Key::random());
}

#[test]
fn nothing_of_what_was_said_is_in_the_debug_form() {
    let message = Message { parts: vec![Part::Text(text("secret"))], ..Message::new(Role::User) };
    let shown = format!("{message:?} {KEY:?}");
    assert!(!shown.contains("secret") && shown.ends_with("Key(..)"), "{shown}");
}

proptest! {
    #[test]
    fn a_digest_does_not_depend_on_how_the_text_was_cut(
        pieces in proptest::collection::vec("[a \n é\u{2003}]{0,12}", 0..12), limit in 0_usize..40,
    ) {
        let whole: String = pieces.concat();
        let mut cut = Text::new(limit, &KEY);
        pieces.iter().for_each(|piece| cut.push(piece));
        prop_assert_eq!(cut.digest(), Text::of(&whole, 0, &KEY).digest());
        prop_assert_eq!(cut.digest() == Text::of("", 0, &KEY).digest(), whole.trim().is_empty());
        prop_assert!(whole.starts_with(cut.kept()) && cut.kept().len() <= limit);
        prop_assert_eq!(cut.length(), whole.len() as u64);
    }
}
