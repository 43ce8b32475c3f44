use proptest::prelude::*;

use super::*;

const KEY: &str =
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAx4UbaDzY5xjW6hc9jwN0mX33XpTDVW/qWmbXW9vbXq3c5Zr5\nkz+Zq1BvGq0=";
const SLACK: &str = concat!("https://hooks.slack", ".com/services/T00000000/B00000000/abcdefghijklmnop");
const JWT: &str =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";

/// What of it must be gone, in which text, and what stands there then. The secrets are put together here, so that no scanner
/// takes this file for a leak.
fn positive() -> Vec<(String, String, &'static str)> {
    let joined = |prefix: &str, rest: &str| format!("{prefix}{rest}");
    let alone = |secret: String, kind| (secret.clone(), secret, kind);
    let token = "a1B2c3D4e5F6g7H8i9J0";
    let long = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0";
    let mut all = Vec::new();
    for (prefix, rest) in [
        ("sk-", token),
        ("sk-", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1"),
        ("sk-proj-", long),
        ("sk-ant-api03-", long),
        ("sk-or-v1-", long),
        ("sk-svcacct-", long),
        ("sk_live_", token),
        ("rk_live_", token),
        ("sk_test_", token),
        ("whsec_", token),
        ("AKIA", "IOSFODNN7EXAMPLE"),
        ("ASIA", "IOSFODNN7EXAMPLE"),
        ("AIza", "SyA-1234567890abcdefghijklmnopqrstu"),
        ("ya29.", "a0AfH6SMBx-1234567890"),
        ("GOCSPX-", token),
        ("ghp_", token),
        ("gho_", token),
        ("ghs_", token),
        ("github_pat_", "11ABCDEFG0123456789_abcdefghijkl"),
        ("xoxb-", "123456789012-abcdefghijkl"),
        ("xoxp-", "123456789012-abcdefghijkl"),
        ("xapp-", "1-A123-456-abcdef"),
        ("glpat-", "a1B2c3D4e5F6g7H8i9J0"),
        ("hf_", "abcdefghijklmnopqrstuvwxyz12345678"),
        ("npm_", "abcdefghijklmnopqrstuvwxyz1234567890"),
        ("pypi-", "AgEIcHlwaS5vcmcCJDA1234567890abcdefghijklmnopqrstu"),
        ("SG.", "abcdefghijklmnopqrstuv.1234567890abcdefghijklmnopqrstuvwxyzABCDEFG"),
        ("gsk_", long),
        ("xai-", long),
        ("r8_", long),
        ("lsv2_pt_", long),
        ("AGE-SECRET-KEY-1", "QQPQQPQQPQQPQQPQQPQQPQQPQQ"),
    ] {
        all.push(alone(joined(prefix, rest), API_KEY));
    }
    for (secret, text) in [
        ("abcdefghijklmnop", SLACK.to_owned()),
        ("abc-DEF_123", joined("https://discord", ".com/api/webhooks/123456789/abc-DEF_123")),
        ("ABC-DEF1234", joined("https://api.telegram.org/bot", "123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11/send")),
    ] {
        all.push((secret.to_owned(), text, WEBHOOK));
    }
    all.push(alone(JWT.to_owned(), TOKEN));
    all.push(alone(JWT.rsplit_once('.').unwrap().0.to_owned() + ".", TOKEN));
    for (secret, text, kind) in [
        ("abc123def", "Authorization: Bearer abc123def", SECRET),
        ("abc123def", "use bearer  abc123def here", TOKEN),
        ("AbCdEfGh1234", "Bearer\tAbCdEfGh1234", TOKEN),
        ("AbCdEfGh1234", "Bearer\nAbCdEfGh1234", TOKEN),
        ("AbC%2Fd1", "https://h.example/x?se=1&sig=AbC%2Fd1", SECRET),
        ("AbCd12", "https://h.example/x?sig=AbCd12&a=b", SECRET),
        ("0123abcd", "https://h.example/x?X-Amz-Date=1&X-Amz-Signature=0123abcd", SECRET),
        ("dXNlcjpwYXNz", "curl -H 'Basic dXNlcjpwYXNz'", TOKEN),
        ("hunter2", "password=hunter2", SECRET),
        ("hunter2", "PASSWORD: hunter2, user: me", SECRET),
        ("hunter2", "{\"password\": \"hunter2\"}", SECRET),
        ("hun ter2", "{'db_password':'hun ter2'}", SECRET),
        ("hunter2", "\"{\\\"password\\\": \\\"hunter2\\\"}\"", SECRET),
        ("hunter2", "password := `hunter2`", SECRET),
        ("hunter2", "'password' => 'hunter2'", SECRET),
        ("h\\\"unter2", "{\"passwd\":\"h\\\"unter2\"}", SECRET),
        ("abcdef", "api_key: abcdef", SECRET),
        ("abcdef", "API key: abcdef", SECRET),
        ("abcdef", "export OPENAI_API_KEY=abcdef", SECRET),
        ("abcdef", "aws_secret_access_key = abcdef", SECRET),
        ("abcdef", "clientSecret: 'abcdef'", SECRET),
        ("abcdef", "https://a.example/?access_token=abcdef&x=1", SECRET),
        ("abcdef", "--password abcdef --verbose", SECRET),
        ("abcdef", "--token=abcdef", SECRET),
        ("abc; d=ef", "Cookie: abc; d=ef", SECRET),
        ("abc=def", "set-cookie: abc=def; path=/", SECRET),
        ("ABCdef+/==", "AccountName=x;AccountKey=ABCdef+/==;EndpointSuffix=y", SECRET),
        ("user:pa", "https://user:pa@host.example/x", CREDENTIALS),
        ("p@ss", "postgres://user:p@ss@db:5432/x", CREDENTIALS),
        (":pw", "redis://:pw@cache:6379", CREDENTIALS),
        ("jane.doe+x@mail.example.org", "write to jane.doe+x@mail.example.org.", EMAIL),
        ("müller@münchen.de", "<müller@münchen.de>", EMAIL),
        ("jane@example.co", "请联系jane@example.co谢谢", EMAIL),
        ("o'neil@example.ie", "(o'neil@example.ie)", EMAIL),
        ("4111 1111 1111 1111", "card 4111 1111 1111 1111 exp 12/29", CARD),
        ("4111111111111111", "card:4111111111111111.", CARD),
        ("5500-0055-5555-5559", "5500-0055-5555-5559", CARD),
        ("3782 822463 10005", "amex 3782 822463 10005", CARD),
        ("378282246310005", "378282246310005", CARD),
        ("5500005555555559", "4111111111111111 5500005555555559", CARD),
        ("6011111111111117", "{\"n\": 6011111111111117}", CARD),
        ("+49 30 1234567", "call +49 30 1234567 now", PHONE),
        ("+1 (555) 123-4567", "+1 (555) 123-4567", PHONE),
        ("+442079460958", "tel:+442079460958", PHONE),
        ("(555) 234-5678", "call (555) 234-5678.", PHONE),
        ("555-234-5678", "call 555-234-5678", PHONE),
        ("555.234.5678", "call 555.234.5678!", PHONE),
        ("1-800-555-0199", "1-800-555-0199", PHONE),
        ("020 7946 0958", "London 020 7946 0958", PHONE),
        ("0171/2345678", "Tel. 0171/2345678", PHONE),
        ("01 23 45 67 89", "Paris 01 23 45 67 89", PHONE),
        ("138-1234-5678", "138-1234-5678", PHONE),
        ("(11) 91234-5678", "SP (11) 91234-5678", PHONE),
    ] {
        all.push((secret.into(), text.into(), kind));
    }
    let whole = format!("{KEY}\n-----END RSA PRIVATE KEY-----");
    for text in [
        format!("{whole}\nbye"),
        KEY.to_owned(),
        format!("{KEY}\nand so on, and so on"),
        whole.replace('\n', "\\n"),
        KEY.replace('\n', "\\r\\n"),
        KEY.replace("\nMII", "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123\n\nMII"),
        whole.replace("RSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK"),
    ] {
        all.push(("kz+Zq1BvGq0=".into(), text, PRIVATE_KEY));
    }
    all
}

const NEGATIVE: [&str; 79] = [
    "https://REDACTED:REDACTED@docs.example.com/a?token=REDACTED",
    "the signature: def f(x)",
    "sig=3 and signature=none here",
    "https://h.example/?design=modern",
    "The quick brown fox jumps over the lazy dog.",
    "task-oriented-dialogue-systems are disk-based",
    "sk-learn and sk-image",
    "risk-assessment-2024-report",
    "hf_transformers_are_great_for_everyone",
    "npm_config_registry and npm_package_json",
    "pypi-mirror",
    "SG.1 and SG.",
    "AKIA is a prefix",
    "eyJ begins every JWT",
    "eyJhbGciOiJIUzI1NiJ9",
    "the bearer of bad news",
    "Bearer authentication scheme",
    "basic authentication is simple",
    "Basic understanding of physics",
    "max_tokens: 4096",
    "max_tokens=512, temperature=0.2",
    "\"prompt_tokens\": 12, \"total_tokens\": 40",
    "token_count: 5",
    "tokens = tokenizer(text)",
    "the secretary: Jane",
    "password",
    "What is your password?",
    "password: ${DB_PASSWORD}",
    "password = \"\"",
    "password: ********",
    "token == other",
    "key: value",
    "keyboard: qwerty",
    "primary_key: id",
    "monkey=banana",
    "next_page_token: abc",
    "secret://vault",
    "{\"type\": \"string\", \"key\": \"name\"}",
    "cookie recipes: flour and sugar",
    "def f(password: str) -> None",
    "https://example.com/path?x=1#y",
    "https://example.com:8080/@user",
    "git@github.com:owner/repo.git",
    "npm i @types/node@18.2.0",
    "user@localhost",
    "icon@2x.png",
    "a @ b",
    "@decorator",
    "x@y",
    "4111 1111 1111 1112",
    "4111111111111112",
    "0.4111111111111111",
    "id-4111111111111111",
    "1234567890123456",
    "1700000000000",
    "1700000000000000000",
    "9007199254740993",
    "f47ac10b-58cc-4372-a567-0e02b2c3d479",
    "550e8400-e29b-41d4-a716-446655440000",
    "2024-11-22 10:30:00",
    "2024-11-22T10:30:00.123456+00:00",
    "22.11.2024, 01.02.2024",
    "192.168.100.200",
    "10.0.0.1:8080",
    "version 1.20.300",
    "1 234 567 890",
    "1,234,567,890",
    "123-45",
    "3.14159265358979",
    "5551234567",
    "order 555-1234",
    "pages 200-300",
    "x = 100 + 200 + 300",
    "1e+1000000",
    "0x1234567890abcdef",
    "chr1:123456789-987654321",
    "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkq\n-----END PUBLIC KEY-----",
    "-----BEGIN CERTIFICATE-----\nMIIBIjANBgkq\n-----END CERTIFICATE-----",
    "007 and 42",
];

fn clean(text: &str) -> String {
    Redaction::default().text(text).into_owned()
}

#[test]
fn what_is_secret_by_its_shape_goes_and_its_kind_stands_there() {
    let table = positive();
    assert!(table.len() >= 60, "{}", table.len());
    let mut wrong = Vec::new();
    for (secret, text, kind) in table {
        for text in [text.clone(), format!("see {text} there"), format!("{text}\nnext"), format!("é\n{text}")] {
            let clean = clean(&text);
            if clean.contains(&secret) || !clean.contains(kind) {
                wrong.push(format!("{text:?} -> {clean:?}, expected {kind}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_only_looks_a_little_like_it_stays() {
    let redaction = Redaction::default();
    let mut wrong = Vec::new();
    for text in NEGATIVE {
        let clean = redaction.text(text);
        if !matches!(clean, Cow::Borrowed(same) if same == text) {
            wrong.push(format!("{text:?} -> {clean:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_secret_goes() {
    for (text, expected) in [
        ("{\"password\": \"hunter2\", \"a\": 1}", "{\"password\": \"[REDACTED:secret]\", \"a\": 1}"),
        (
            "https://u:p@h.example/x?token=abc&y=1",
            "https://[REDACTED:credentials]@h.example/x?token=[REDACTED:secret]&y=1",
        ),
        ("Authorization: Bearer abc123\nAccept: */*", "Authorization: [REDACTED:secret]\nAccept: */*"),
        ("a@b.co, c@d.org.", "[REDACTED:email], [REDACTED:email]."),
        ("call (555) 234-5678 or +49 30 1234567.", "call [REDACTED:phone] or [REDACTED:phone]."),
        ("export API_KEY=abc; run", "export API_KEY=[REDACTED:secret]; run"),
        ("[REDACTED:secret] a@b.co", "[REDACTED:secret] [REDACTED:email]"),
        ("password=[REDACTED]", "password=[REDACTED]"),
    ] {
        assert_eq!(clean(text), expected);
    }
    let key = clean(&format!("a\n{KEY}\n-----END RSA PRIVATE KEY-----\nb"));
    assert_eq!(key, "a\n[REDACTED:private_key]\nb");
    assert_eq!(clean(&format!("{KEY}\nthen prose")), "[REDACTED:private_key]\nthen prose");
    assert_eq!(clean("-----BEGIN PRIVATE KEY----- and so on"), "[REDACTED:private_key] and so on");
}

#[test]
fn a_secret_that_the_end_has_cut_goes_as_soon_as_its_prefix_tells() {
    let redaction = Redaction::default();
    for (secret, from) in [
        (format!("sk-{}", "proj-a1B2c3D4e5F6"), 4),
        (JWT.to_owned(), 4),
        (format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0"), 5),
        ("password=hunter2".into(), 10),
        ("\"password\": \"hunter2".into(), 14),
        ("Bearer abc".into(), 8),
        ("me@example.org".into(), 3),
        ("+49 30 1234567".into(), 6),
        ("4111 1111 1111 1111".into(), 9),
        ("https://user:pass@host".into(), 14),
        (KEY.to_owned(), 40),
    ] {
        for end in from..=secret.len() {
            let text = format!("text {}", &secret[..end]);
            let clean = redaction.beginning(&text);
            assert!(clean.contains("[REDACTED:"), "{text:?} -> {clean:?}");
        }
    }
    for text in ["sk-", "see https://host:8080", "call +4", "what is it", "password", "password=", "a@"] {
        assert_eq!(redaction.beginning(text).replace("[REDACTED:email]", "a@"), text);
    }
}

#[test]
fn rules_of_the_user_add_to_what_is_built_in() {
    let pattern = |text: &str, replace: &str| Redact::Pattern {
        pattern: Pattern::new(text).unwrap(),
        replace: replace.to_owned(),
    };
    let redaction = Redaction::new(&[pattern("(?i)project \\w+", "[REDACTED:project]"), pattern("\\d{3}x", "$1")]);
    assert_eq!(redaction.text("Project Zeus, 123x, a@b.co"), "[REDACTED:project], $1, [REDACTED:email]");
    for (wrong, part) in [
        ("(", "unclosed group"),
        ("a*", "matches nothing at all"),
        ("(?=a)", "look-around"),
        ("\\w{1000}{100}", "256 KiB"),
        ("a{2,1}", "repetition"),
    ] {
        let problem = Pattern::new(wrong).unwrap_err();
        assert!(problem.contains(part), "{wrong}: {problem}");
    }
}

#[test]
fn paths_name_values_of_json() {
    let redacted = |path: &str, text: &str| {
        Redaction::new(&[Redact::Path(Path::new(path).unwrap())]).json(text, false).text.into_owned()
    };
    let gone = "\"[REDACTED]\"";
    for (path, text, expected) in [
        ("$.a", "{\"a\":1,\"b\":{\"a\":2}}", format!("{{\"a\":{gone},\"b\":{{\"a\":2}}}}")),
        ("$..a", "{\"a\":1,\"b\":[{\"a\":2}]}", format!("{{\"a\":{gone},\"b\":[{{\"a\":{gone}}}]}}")),
        (
            "$.a[*].b",
            "{\"a\":[{\"b\":1,\"c\":2},{\"b\":[3]}]}",
            format!("{{\"a\":[{{\"b\":{gone},\"c\":2}},{{\"b\":{gone}}}]}}"),
        ),
        ("$[1]", "[1, {\"x\": \"}\"} , 3]", format!("[1, {gone} , 3]")),
        ("$.*", "{\"a\":{},\"b\":null}", format!("{{\"a\":{gone},\"b\":{gone}}}")),
        ("$['a b'].c", "{\"a b\":{\"c\":true}}", format!("{{\"a b\":{{\"c\":{gone}}}}}")),
        ("$..a.b", "{\"a\":{\"a\":{\"b\":1}}}", format!("{{\"a\":{{\"a\":{{\"b\":{gone}}}}}}}")),
        ("$..[0]", "[[1,2],3]", format!("[{gone},3]")),
        ("$.a", "{\"\\u0061\":1}", format!("{{\"\\u0061\":{gone}}}")),
        // Cut, and no JSON behind: what the path names is gone nevertheless.
        ("$.a", "{\"x\":1,\"a\":{\"b\":\"cd", format!("{{\"x\":1,\"a\":{gone}")),
        ("$.a", "{\"a\":\"b\"} and more", format!("{{\"a\":{gone}}} and more")),
    ] {
        assert_eq!(redacted(path, text), expected, "{path} {text}");
    }
    for wrong in
        ["", "$", "a", "a.b", "$a", "$.", "$..", "$.a.", "$[", "$[a]", "$[-1]", "$['a'", "$.a b", "$.a[", "$.a]"]
    {
        assert!(Path::new(wrong).is_err(), "{wrong}");
    }
    assert!(Path::new(&format!("${}", ".a".repeat(33))).is_err());
}

#[test]
fn json_is_treated_value_by_value_and_stays_json() {
    for (text, expected) in [
        ("{\"password\":\"a b\",\"n\":1}", "{\"password\":\"[REDACTED:secret]\",\"n\":1}"),
        ("{\"api_key\":12345}", "{\"api_key\":\"[REDACTED:secret]\"}"),
        (
            "{\"passwords\":[\"a\"],\"password\":[\"b\",\"c\"]}",
            "{\"passwords\":[\"a\"],\"password\":[\"[REDACTED:secret]\",\"[REDACTED:secret]\"]}",
        ),
        ("{\"password\":null,\"token\":\"\"}", "{\"password\":null,\"token\":\"\"}"),
        ("{\"max_tokens\":5}", "{\"max_tokens\":5}"),
        ("[\"mail \\u0061@b.co\\n\"]", "[\"mail [REDACTED:email]\\n\"]"),
        ("[4111111111111111]", "[\"[REDACTED:card]\"]"),
        ("{\"a@b.co\":1}", "{\"[REDACTED:email]\":1}"),
        ("\"password=x1\"", "\"password=[REDACTED:secret]\""),
        (" [1, 2.5e3, true, \"é\\ud83d\\ude00\"] ", " [1, 2.5e3, true, \"é\\ud83d\\ude00\"] "),
    ] {
        let json = Redaction::default().json(text, false);
        assert_eq!((json.text.as_ref(), json.valid), (expected, true), "{text}");
        serde_json::from_str::<serde_json::Value>(&json.text).unwrap();
    }
    for text in [
        "",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{\"a\"}",
        "tru",
        "01",
        "[1 2]",
        "\"a",
        "\"\\x\"",
        "\"\n\"",
        "{a:1}",
        "[]]",
        "1 2",
    ] {
        let json = Redaction::default().json(text, false);
        assert_eq!((json.text.as_ref(), json.valid), (text, false), "{text}");
        assert!(serde_json::from_str::<serde_json::Value>(text).is_err());
    }
    let cut = Redaction::default().json("{\"a\":\"x\",\"password\":\"hun", true);
    assert_eq!((cut.text.as_ref(), cut.valid), ("{\"a\":\"x\",\"password\":\"[REDACTED:secret]", false));
    let plain = Redaction::default().json("4111 1111 1111 1111", false);
    assert_eq!(plain.text, "[REDACTED:card]");
}

#[test]
fn what_is_secret_goes_however_it_is_wrapped() {
    let key = concat!("sk-", "proj-AbCd1234EfGh5678IjKl9012");
    let inner = format!("{{\"k\":\"\\u0073{}\"}}", &key[1..]);
    let twice = serde_json::json!({ "body": serde_json::json!({ "k": &inner }).to_string() }).to_string();
    for (text, expected) in [
        ("{\"password\":{\"value\":\"hunter22\"}}".to_owned(), "{\"password\":{\"value\":\"[REDACTED:secret]\"}}"),
        (
            "{\"token\":[{\"v\":\"abc\"}],\"v\":\"x\"}".to_owned(),
            "{\"token\":[{\"v\":\"[REDACTED:secret]\"}],\"v\":\"x\"}",
        ),
        (
            "{\"headers\":[{\"name\":\"Authorization\",\"value\":\"abc hunter22\"},{\"name\":\"a\",\"value\":\"b\"}]}"
                .to_owned(),
            "{\"headers\":[{\"name\":\"Authorization\",\"value\":\"[REDACTED:secret]\"},{\"name\":\"a\",\"value\":\"b\"}]}",
        ),
        (
            "{\"value\":\"a@b.co x\",\"Name\":\"Cookie\"}".to_owned(),
            "{\"value\":\"[REDACTED:secret]\",\"Name\":\"Cookie\"}",
        ),
        ("{\"value\": 12 ,\"key\":\"token\"}".to_owned(), "{\"value\": \"[REDACTED:secret]\" ,\"key\":\"token\"}"),
        (
            "{\"key\":\"token\",\"value\":[1,\"a\"]}".to_owned(),
            "{\"key\":\"token\",\"value\":[\"[REDACTED:secret]\",\"[REDACTED:secret]\"]}",
        ),
        (serde_json::json!({ "body": &inner }).to_string(), "{\"body\":\"{\\\"k\\\":\\\"[REDACTED:api_key]\\\"}\"}"),
        ("{\"n\":4111111111111111.0}".to_owned(), "{\"n\":\"[REDACTED:card]\"}"),
        ("{\"n\":4.111111111111111e15}".to_owned(), "{\"n\":\"[REDACTED:card]\"}"),
        ("{\"n\":1.5,\"m\":1.0,\"o\":1e300}".to_owned(), "{\"n\":1.5,\"m\":1.0,\"o\":1e300}"),
    ] {
        let clean = Redaction::default().json(&text, false);
        assert_eq!((&*clean.text, clean.valid), (expected, true), "{text}");
    }
    let clean = Redaction::default().json(&twice, false);
    assert!(
        clean.valid && clean.text.contains("[REDACTED:api_key]") && !clean.text.contains("AbCd1234"),
        "{}",
        clean.text
    );
    // A value that is cut is hidden from its beginning on, and what is behind the name is none of it.
    let cut = Redaction::default().json("{\"name\":\"Cookie\",\"value\":\"ab", true);
    assert_eq!(cut.text, "{\"name\":\"Cookie\",\"value\":\"[REDACTED:secret]");
}

#[test]
fn hostile_texts_end_soon() {
    let size = 1 << 14;
    let key = "-----BEGIN PRIVATE KEY-----";
    for part in [
        "sk-",
        "sk-1",
        "eyJ",
        "eyJ.",
        "key",
        "password",
        "password=",
        "password=\"",
        "password='\\",
        "@",
        "a@",
        "a@b.",
        "@a.",
        "://",
        "://a:",
        "+1",
        "1 ",
        "1-",
        "4111 ",
        "0",
        "(",
        "(1",
        key,
        "-----BEGIN ",
        "[REDACTED",
        "[REDACTED:a]",
        "bearer ",
        "basic a",
        "\\",
        "\"",
        "{\"a\":",
        "[",
        "secret",
        "token ",
        "é",
        "--token ",
        "cookie:",
    ] {
        let text = part.repeat(size / part.len());
        let redaction = Redaction::new(&[Redact::Path(Path::new("$..a..b").unwrap())]);
        let clean = redaction.text(&text);
        assert!(clean.len() <= 8 * text.len(), "{part}");
        redaction.json(&text, true);
    }
}

#[test]
fn values_that_are_too_deep_go_whole() {
    let deep = format!("{}\"a@b.co\"{}", "[".repeat(1000), "]".repeat(1000));
    let json = Redaction::default().json(&deep, false);
    assert!(
        json.valid && json.text.contains("[[\"[REDACTED:depth]\"]]") && !json.text.contains("a@b"),
        "{}",
        json.text
    );
    serde_json::from_str::<serde_json::Value>(&json.text).unwrap();
}

/// Secrets that may stand anywhere, with nothing around them.
fn secret() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9]{10}[a-z][A-Z][0-9][a-zA-Z0-9]{20}".prop_map(|rest| format!("sk-proj-{rest}")),
        "[A-Z0-9]{16}".prop_map(|rest| format!("AKIA{rest}")),
        "[a-zA-Z0-9]{36}".prop_map(|rest| format!("ghp_{rest}")),
        "[a-zA-Z0-9_-]{35}".prop_map(|rest| format!("AIza{rest}")),
        "[a-zA-Z0-9]{10}\\.eyJ[a-zA-Z0-9]{10}\\.[a-zA-Z0-9_-]{20}".prop_map(|rest| format!("eyJ{rest}")),
        "[a-zA-Z0-9+/]{64}\n[a-zA-Z0-9+/]{64}"
            .prop_map(|rest| format!("{}\n{rest}\n-----END PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----")),
        "[a-z]{3,8}\\.[a-z]{3,8}@[a-z]{3,8}\\.com",
    ]
}

proptest! {
    #[test]
    fn a_secret_goes_wherever_it_stands(before in ".{0,40}", secret in secret(), after in ".{0,40}") {
        let text = format!("{before}{secret}{after}");
        for clean in [clean(&text), Redaction::default().beginning(&text).into_owned()] {
            prop_assert!(!clean.contains(&secret), "{}", clean);
            if secret.starts_with("AKIA") || secret.starts_with("ghp_") {
                prop_assert!(!clean.contains(&secret[4..]), "{}", clean);
            }
        }
    }

    #[test]
    fn what_is_clean_stays_as_it_is(
        parts in proptest::collection::vec(prop_oneof![
            secret(),
            "[a-zA-Z0-9@:/=\"'+. ()\\[\\]\\\\\n-]{0,12}",
            Just("password=".to_owned()), Just("Bearer ".to_owned()), Just("[REDACTED:".to_owned()), Just("://".to_owned()),
            Just("[REDACTED]".to_owned()), Just("+49 ".to_owned()), Just("555-234-5678".to_owned()), Just("eyJ".to_owned()),
        ], 0..12),
        cut in any::<bool>(),
    ) {
        let redaction = Redaction::default();
        let text = parts.concat();
        let once = redaction.redact(&text, cut).into_owned();
        prop_assert_eq!(redaction.redact(&once, cut), once.as_str(), "{}", text);
        redaction.json(&text, cut);
    }

    #[test]
    fn any_json_stays_json_and_loses_its_secrets(secret in secret(), text in ".{0,20}", key in "[a-z_]{1,12}", number in any::<f64>()) {
        let number = if number.is_finite() { number } else { 0.0 };
        let value = serde_json::json!({ key: [text, number, { "x": secret }, format!("{text} {secret}")], (secret.clone()): null });
        let paths = [Redact::Path(Path::new("$..x").unwrap())];
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            for redaction in [Redaction::default(), Redaction::new(&paths)] {
                let json = redaction.json(&text, false);
                prop_assert!(json.valid);
                let read: serde_json::Value = serde_json::from_str(&json.text).unwrap();
                prop_assert!(!json.text.contains(&secret) && !read.to_string().contains(&secret));
                let again = redaction.json(&json.text, false);
                prop_assert_eq!(&again.text, &json.text);
                for end in (0..text.len()).step_by(7).filter(|end| text.is_char_boundary(*end)) {
                    redaction.json(&text[..end], true);
                }
            }
        }
    }

    #[test]
    fn nothing_panics(text in any::<String>(), cut in any::<bool>()) {
        let redaction = Redaction::new(&[Redact::Path(Path::new("$..a[*]").unwrap())]);
        redaction.redact(&text, cut);
        redaction.json(&text, cut);
    }

    #[test]
    fn a_quoted_text_is_that_text_as_json(text in any::<String>()) {
        let mut out = String::new();
        quote(&text, &mut out);
        prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
    }
}
