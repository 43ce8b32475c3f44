//! Numbers of cards and telephones: digits in groups, and what is between them.

use super::{CARD, Hit, PHONE};

/// Digits in a row.
#[derive(Clone, Copy, Debug)]
struct Group {
    start: usize,
    end: usize,
    /// What stands between the group before and this one has a blank in it, or there is none.
    apart: bool,
    /// A `+` is right before it, perhaps with a bracket; or a bracket alone.
    plus: bool,
    bracket: bool,
}

impl Group {
    fn len(self) -> usize {
        self.end - self.start
    }
}

pub(super) fn find(text: &str, cut: bool, hits: &mut Vec<Hit<'static>>) {
    let bytes = text.as_bytes();
    let least = if cut { LEAST_CUT } else { LEAST };
    if bytes.iter().filter(|byte| byte.is_ascii_digit()).count() < least {
        return;
    }
    let mut at = 0;
    let mut groups = Vec::new();
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(u8::is_ascii_digit)) {
        at = phrase(bytes, at + found, &mut groups);
        if groups.iter().map(|group| group.len()).sum::<usize>() < least {
            continue;
        }
        let cut = cut && at + super::run(bytes, at, |byte| b" -./()".contains(&byte)) == bytes.len();
        Phrase { bytes, groups: &groups, cut }.find(hits);
    }
}

/// Groups with a little between them; where the last one ends.
fn phrase(bytes: &[u8], first: usize, groups: &mut Vec<Group>) -> usize {
    groups.clear();
    let mut at = first;
    let mut between = first;
    loop {
        let digits = super::run(bytes, at, |byte| byte.is_ascii_digit());
        let gap = bytes.get(between..at).unwrap_or_default();
        let open = if groups.is_empty() { bytes.get(at.saturating_sub(2)..at).unwrap_or_default() } else { gap };
        groups.push(Group {
            start: at,
            end: at + digits,
            apart: groups.is_empty() || gap.contains(&b' '),
            plus: open.ends_with(b"+") || open.ends_with(b"+("),
            bracket: open.ends_with(b"("),
        });
        between = at + digits;
        let gap = super::run(bytes, between, |byte| b" -./()+".contains(&byte));
        at = between + gap;
        // A no-break space is a blank too, but rare enough to end a number.
        if !(1..=3).contains(&gap) || !bytes.get(at).is_some_and(u8::is_ascii_digit) {
            return between;
        }
    }
}

struct Phrase<'a> {
    bytes: &'a [u8],
    groups: &'a [Group],
    cut: bool,
}

impl Phrase<'_> {
    fn find(&self, hits: &mut Vec<Hit<'static>>) {
        let mut index = 0;
        while let Some(first) = self.groups.get(index) {
            let found =
                self.card(index).map(|count| (count, CARD)).or_else(|| self.phone(index).map(|count| (count, PHONE)));
            match found {
                Some((count, with)) => {
                    let end = self.groups.get(index + count - 1).map_or(first.end, |last| last.end);
                    hits.push(Hit::new(self.opening(index)..end, with));
                    index += count;
                }
                None => index += 1,
            }
        }
    }

    /// With the plus and the bracket that belong to it.
    fn opening(&self, index: usize) -> usize {
        let Some(group) = self.groups.get(index) else { return 0 };
        group.start - usize::from(group.bracket) - usize::from(group.plus)
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    fn digits(&self, index: usize, count: usize) -> impl Iterator<Item = u8> + Clone {
        let groups = self.groups.get(index..index + count).unwrap_or_default();
        groups
            .iter()
            .flat_map(|group| self.bytes.get(group.start..group.end).unwrap_or_default())
            .map(|byte| byte - b'0')
    }

    fn between(&self, index: usize) -> &[u8] {
        let before = index.checked_sub(1).and_then(|before| self.groups.get(before)).map(|group| group.end);
        let start = self.groups.get(index).map(|group| group.start);
        before.zip(start).and_then(|(from, to)| self.bytes.get(from..to)).unwrap_or_default()
    }

    /// Nothing that makes it a part of a longer name or number.
    fn begins(&self, index: usize, forbidden: &[u8]) -> bool {
        let before = self.opening(index).checked_sub(1).and_then(|at| self.byte(at));
        before.is_none_or(|byte| byte >= 0x80 || !(byte.is_ascii_alphanumeric() || forbidden.contains(&byte)))
    }

    fn ends(&self, index: usize, count: usize) -> bool {
        let Some(last) = index.checked_add(count - 1).and_then(|last| self.groups.get(last)) else { return false };
        let joined = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let next = self.byte(last.end);
        let goes_on = next.is_some_and(|byte| b".-:".contains(&byte)) && self.byte(last.end + 1).is_some_and(joined);
        !(next.is_some_and(joined) || goes_on)
    }

    /// How many groups from here on are a card's number: one run, or groups as they are printed, all with the same between.
    fn card(&self, index: usize) -> Option<usize> {
        if !self.begins(index, b"_.-") {
            return None;
        }
        let mut total = 0;
        let mut best = None;
        for (count, group) in self.groups.get(index..)?.iter().enumerate() {
            let separated = count == 0 || matches!(self.between(index + count), b" " | b"-");
            let same = count < 2 || self.between(index + count) == self.between(index + 1);
            let printed = count == 0 || (group.len() <= 7 && self.groups.get(index)?.len() == 4);
            total += group.len();
            if !separated || !same || !printed || total > 19 {
                break;
            }
            if total >= 13 && is_card(self.digits(index, count + 1), total) && self.ends(index, count + 1) {
                best = Some(count + 1);
            }
        }
        // Eight digits of a card's beginning, and no more to come.
        let rest = self.groups.len() - index;
        let cut = self.cut && (8..19).contains(&total) && rest <= 5 && (2..=6).contains(&self.digits(index, 1).next()?);
        best.or_else(|| cut.then_some(rest))
    }

    /// How many groups from here on are a telephone number.
    fn phone(&self, index: usize) -> Option<usize> {
        let group = self.groups.get(index)?;
        let rest = self.groups.get(index..)?;
        let opens = group.apart || group.bracket || group.plus;
        let begins = self.begins(index, b"_.-/#$@&*=") || self.tagged(index);
        if !(opens && begins) {
            return None;
        }
        if group.plus {
            return self.international(rest);
        }
        let lengths: Vec<usize> = rest.iter().take(6).map(|group| group.len()).collect();
        let known = match lengths.as_slice() {
            [1, 3, 3, 4, ..] if self.leads(index, b"1") => Some(4),
            [3, 3, 4, ..] if self.is_north_american(index) => Some(3),
            [3, 4, 4, ..] if self.leads(index, b"1") => Some(3),
            _ => None,
        };
        let count = known.or_else(|| self.national(index, &lengths))?;
        let followed = rest.get(count).is_some_and(|next| !next.apart);
        let crowded = self.between(index + 1) == b" " && rest.len() > count && !group.bracket;
        (self.ends(index, count) && !followed && !crowded && self.no_date(index, count)).then_some(count)
    }

    /// `tel:`, `phone=`.
    fn tagged(&self, index: usize) -> bool {
        self.opening(index).checked_sub(1).and_then(|at| self.byte(at)) == Some(b'=')
    }

    /// A plus and eight to fifteen digits (E.164).
    fn international(&self, rest: &[Group]) -> Option<usize> {
        let mut total = 0;
        let count = rest.iter().take_while(|group| {
            total += group.len();
            total <= 15
        });
        let count = count.count();
        let digits: usize = rest.iter().take(count).map(|group| group.len()).sum();
        let cut = self.cut && count == rest.len() && digits >= 3;
        (digits >= 8 || cut).then_some(count)
    }

    fn leads(&self, index: usize, digits: &[u8]) -> bool {
        self.digits(index, 1).next().is_some_and(|first| digits.contains(&(first + b'0')))
    }

    /// Area and exchange begin with 2 to 9.
    fn is_north_american(&self, index: usize) -> bool {
        self.leads(index, b"23456789") && self.leads(index + 1, b"23456789")
    }

    /// With the zero of the trunk, or the area in brackets.
    fn national(&self, index: usize, lengths: &[usize]) -> Option<usize> {
        let group = self.groups.get(index)?;
        let mut first = self.digits(index, 1);
        let trunk = first.next() == Some(0) && first.next().is_some_and(|second| second != 0);
        let area = *lengths.first()?;
        if !(trunk || group.bracket) || !(2..=5).contains(&area) {
            return None;
        }
        let mut total = area;
        let mut count = 1;
        for length in lengths.iter().skip(1) {
            let gap = self.between(index + count);
            if total + length > 12 || *length < 2 || gap.contains(&b'.') && area != 2 {
                break;
            }
            total += length;
            count += 1;
        }
        (count > 1 && total >= 9).then_some(count)
    }

    /// `02-03-2024 10`: two, two and four digits, or four first.
    fn no_date(&self, index: usize, count: usize) -> bool {
        let lengths: Vec<usize> = self.groups.iter().skip(index).take(count).map(|group| group.len()).collect();
        !matches!(lengths.as_slice(), [2, 2, 4, ..] | [4, 2, 2, ..])
    }
}

/// Length and first digits of a network's cards, and the check digit (ISO/IEC 7812).
fn is_card(digits: impl Iterator<Item = u8> + Clone, length: usize) -> bool {
    let head = digits.clone().take(4).fold(0_u32, |head, digit| head * 10 + u32::from(digit));
    let plausible = match head {
        4000..=4999 => matches!(length, 13 | 16 | 19),
        5100..=5599 | 2221..=2720 => length == 16,
        3400..=3499 | 3700..=3799 => length == 15,
        3000..=3059 | 3095 | 3600..=3699 | 3800..=3999 => (14..=19).contains(&length),
        3528..=3589 | 6011 | 6440..=6599 | 6200..=6299 | 8100..=8171 => (16..=19).contains(&length),
        5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763 => (13..=19).contains(&length),
        _ => false,
    };
    let sum: u32 = digits.enumerate().map(|(index, digit)| weigh(length - 1 - index, digit)).sum();
    plausible && sum.is_multiple_of(10)
}

/// Luhn's.
fn weigh(place: usize, digit: u8) -> u32 {
    let digit = u32::from(digit);
    match place % 2 {
        0 => digit,
        _ if digit > 4 => digit * 2 - 9,
        _ => digit * 2,
    }
}

/// Fewer digits are neither; at a cut a few behind a plus are.
const LEAST: usize = 8;
const LEAST_CUT: usize = 3;
