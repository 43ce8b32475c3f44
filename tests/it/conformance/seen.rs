//! What both ends saw, and the comparison.

use std::collections::BTreeMap;

use super::row::{Expected, Row};

/// What each end of each row said, in order.
pub(crate) type Seen = BTreeMap<(String, String), Vec<String>>;

/// Takes up the reports among what a program said: `{"row": …, "at": "client" or "origin", "saw": […]}`.
pub(crate) fn gather(seen: &mut Seen, said: &str) {
    for line in said.lines().filter(|line| line.starts_with("{\"row\":")) {
        let report: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| report[name].as_str().unwrap().to_owned();
        let saw = report["saw"].as_array().unwrap().iter().map(|saw| saw.as_str().unwrap().to_owned());
        // nginx has the name as it stands in the query.
        seen.entry((text("row").replace("%20", " "), text("at"))).or_default().extend(saw);
    }
}

/// Every row that is not as it should be, with what was seen.
pub(crate) fn compare(rows: &[Row], bare: &Seen, ours: &Seen) -> Vec<String> {
    let known = |row: &String| rows.iter().any(|known| known.name == *row);
    // A server that could not read the request cannot name its row.
    let known = |row: &String| row.is_empty() || known(row);
    let strange = bare.keys().chain(ours.keys()).filter(|(row, _)| !known(row));
    let mut failures: Vec<String> = strange.map(|(row, _)| format!("- {row}: not in the table\n")).collect();
    failures.extend(rows.iter().filter_map(|row| {
        let told = |seen: &Seen, at: &str| seen.get(&(row.name.clone(), at.to_owned())).cloned().unwrap_or_default();
        let why =
            judge(row, [told(bare, "client"), told(ours, "client")], [told(bare, "origin"), told(ours, "origin")])?;
        Some(format!("- {}: {why}\n", row.name))
    }));
    failures
}

/// Why the row fails, if it does. Each pair is without us and with us.
fn judge(row: &Row, mut client: [Vec<String>; 2], mut origin: [Vec<String>; 2]) -> Option<String> {
    if let Some(stuck) = client[0].iter().chain(&origin[0]).find(|saw| saw.contains("<TIMEOUT>")) {
        return Some(format!("hangs without us: {}", excerpt(stuck, 0)));
    }
    let requests = row.traced.unwrap_or_else(|| origin[0].iter().map(|saw| request_lines(saw)).sum());
    let [_, ids] = origin.each_mut().map(|saw| saw.iter_mut().map(take_traceparents).sum::<usize>());
    for saw in client.iter_mut().chain(&mut origin).flatten() {
        *saw = without_dates(saw);
    }
    if row.at_once {
        origin.iter_mut().for_each(|saw| saw.sort());
    }
    let different = difference("client", &client).or_else(|| difference("origin", &origin));
    match row.expected {
        Expected::Same => different.or_else(|| {
            (ids != requests)
                .then(|| format!("{requests} requests, but {ids} valid traceparent lines reached the origin"))
        }),
        Expected::Differs(why) => different.is_none().then(|| format!("differs no more, though {why}")),
        Expected::Refused => {
            let heard: usize = origin[1].iter().map(|saw| request_lines(saw)).sum();
            let reset = |saw: &[String], end: &str| saw.last().is_some_and(|last| last.ends_with(end));
            let refused =
                reset(&client[1], "<RST>") && reset(&origin[1], "<RST> too early") && heard <= row.traced.unwrap_or(0);
            (!refused).then(|| format!("is not refused\n    client {:?}\n    origin {:?}", client[1], origin[1]))
        }
    }
}

/// The first thing that is not the same.
fn difference(at: &str, [bare, ours]: &[Vec<String>; 2]) -> Option<String> {
    let most = bare.len().max(ours.len());
    let first = (0..most).find(|&index| bare.get(index) != ours.get(index))?;
    let nothing = String::from("<nothing>");
    let [bare, ours] = [bare, ours].map(|saw| saw.get(first).unwrap_or(&nothing));
    let same = bare.bytes().zip(ours.bytes()).take_while(|(bare, ours)| bare == ours).count();
    let [bare, ours] = [bare, ours].map(|saw| excerpt(saw, same.saturating_sub(40)));
    Some(format!("the {at} sees another thing in step {first}\n    without us {bare}\n    with us    {ours}"))
}

fn excerpt(saw: &str, from: usize) -> String {
    let shown: String = saw.bytes().skip(from).take(240).map(char::from).collect();
    format!("{}{shown:?}", if from > 0 { "…" } else { "" })
}

/// How many requests begin here: lines that end in a version and have three words.
fn request_lines(saw: &str) -> usize {
    let versions = [" HTTP/1.0", " HTTP/1.1", " HTTP/2", " HTTP/2.0"];
    let begins = |line: &str| {
        let line = line.strip_suffix('\r').unwrap_or(line);
        versions.iter().any(|version| line.ends_with(version)) && line.split(' ').count() == 3
    };
    saw.split_inclusive('\n').filter(|line| line.strip_suffix('\n').is_some_and(begins)).count()
}

/// Takes away the lines with a valid `traceparent` (version 00, no zero ids), and says how many those were.
fn take_traceparents(saw: &mut String) -> usize {
    let mut taken = 0;
    let kept = saw.split_inclusive('\n').filter(|line| {
        let valid = is_traceparent(line);
        taken += usize::from(valid);
        !valid
    });
    *saw = kept.collect();
    taken
}

fn is_traceparent(line: &str) -> bool {
    let Some((name, value)) = line.split_once(": ") else { return false };
    let parts: Vec<&str> = value.trim_end_matches(['\r', '\n']).split('-').collect();
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    name.eq_ignore_ascii_case("traceparent")
        && parts.iter().map(|part| part.len()).eq([2, 32, 16, 2])
        && parts.iter().all(|part| hex(part))
        && parts[0] == "00"
        && !zero(parts[1])
        && !zero(parts[2])
}

/// Servers put the time there.
fn without_dates(saw: &str) -> String {
    let lines = saw.split_inclusive('\n').map(|line| {
        let date = line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("date:"));
        if date { "Date\n" } else { line }
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparents_are_taken_and_counted_only_when_valid() {
        let valid = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
        let broken = "traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01\r\n";
        let mut saw = format!("GET / HTTP/1.1\r\n{valid}A: 1\r\n{broken}\r\n");
        assert_eq!(request_lines(&saw), 1);
        assert_eq!(take_traceparents(&mut saw), 1);
        assert_eq!(saw, format!("GET / HTTP/1.1\r\nA: 1\r\n{broken}\r\n"));
    }

    #[test]
    fn only_dates_lose_their_value() {
        assert_eq!(
            without_dates("HTTP/1.1 200 OK\r\nDate: x\r\nDated: y\r\n"),
            "HTTP/1.1 200 OK\r\nDate\nDated: y\r\n"
        );
    }
}
