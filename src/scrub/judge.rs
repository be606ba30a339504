//! Second looks: shapes that harmless text has too are judged by what is in them.

use core::net::Ipv6Addr;

use super::Found;
use super::rules::bracketed;

/// `name=[kind]`, with the quotes of the value left away.
pub(super) fn kept_name(found: &Found<'_, '_>, kind: &str) -> Option<String> {
    Some(format!("{}{}[{kind}]", found.group(1), found.group(2)))
}

/// True for what may be a word of a sentence after `token` or `basic`: letters only, and few.
pub(super) fn wordlike(text: &str) -> bool {
    text.len() < 16 && text.trim_end_matches('.').chars().all(|character| character.is_ascii_alphabetic())
}

/// Four numbers with dots, none of them over 255; also within more.
pub(super) fn ipv4(found: &Found<'_, '_>) -> Option<String> {
    let numbers: Vec<&str> = found.text().split('.').collect();
    let octet = |text: &&str| text.parse::<u16>().is_ok_and(|number| number <= 255);
    numbers.windows(4).any(|four| four.iter().all(octet)).then(|| bracketed("ip"))
}

/// An address, with what ends a sentence after it left in place. `std::fs` is a path of a program, `10:00:00` a time.
pub(super) fn ipv6(found: &Found<'_, '_>) -> Option<String> {
    let text = found.text();
    let after_colon = text.starts_with(':') && !text.starts_with("::");
    if !after_colon && !found.stands_alone() {
        return None;
    }
    let text = if after_colon { text.trim_start_matches(':') } else { text };
    let candidates = [text, text.trim_end_matches('.'), text.trim_end_matches(['.', ':'])];
    let address = candidates.into_iter().find(|candidate| candidate.parse::<Ipv6Addr>().is_ok())?;
    let groups = address.split(':').filter(|group| !group.is_empty()).count();
    let telling = groups >= 3 || address.contains(|character: char| character.is_ascii_digit());
    telling.then(|| found.text().replacen(address, "[ip]", 1))
}

/// Numbers of which one, or several that follow each other, are a card's: 13 to 19 digits that begin as a scheme's do and
/// have the right check digit. Times since 1970 begin with 1.
pub(super) fn card(found: &Found<'_, '_>) -> Option<String> {
    let groups: Vec<&str> = found.text().split([' ', '-']).collect();
    let from = |first: usize| {
        let mut digits = String::new();
        groups.iter().skip(first).any(|group| {
            digits.push_str(group);
            is_card(&digits)
        })
    };
    (0..groups.len()).any(from).then(|| bracketed("card"))
}

/// The check digit of ISO/IEC 7812-1.
fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|character| character.to_digit(10)).take(20).collect();
    let doubled = |(at, digit): (usize, &u32)| match (at % 2, digit * 2) {
        (0, _) => *digit,
        (_, twice) if twice > 9 => twice - 9,
        (_, twice) => twice,
    };
    let sum: u32 = digits.iter().rev().enumerate().map(doubled).sum();
    let begins = digits.first().is_some_and(|first| (2..=6).contains(first));
    begins && (13..=19).contains(&digits.len()) && sum.is_multiple_of(10)
}

/// An account's number as banks write it (ISO 13616): its remainder by 97 is 1.
pub(super) fn account(found: &Found<'_, '_>) -> Option<String> {
    let text: String = found.text().chars().filter(|character| *character != ' ').collect();
    let (head, tail) = text.split_at_checked(4)?;
    let remainder = tail.chars().chain(head.chars()).try_fold(0_u32, |remainder, character| {
        let digit = character.to_digit(36)?;
        Some((remainder * if digit > 9 { 100 } else { 10 } + digit) % 97)
    })?;
    (remainder == 1).then(|| bracketed("account"))
}

/// A telephone number has at least 7 digits; more than the 15 of E.164 are one and something else.
pub(super) fn telephone(found: &Found<'_, '_>) -> Option<String> {
    let digits = found.text().chars().filter(char::is_ascii_digit).count();
    (digits >= 7).then(|| bracketed("phone"))
}

/// A long word of capitals, small letters and digits is a key; a path or a name in code rarely has all three.
pub(super) fn mixed(found: &Found<'_, '_>) -> Option<String> {
    let has = |kind: fn(&char) -> bool| found.text().chars().any(|character| kind(&character));
    let key = has(char::is_ascii_digit) && has(char::is_ascii_lowercase) && has(char::is_ascii_uppercase);
    key.then(|| bracketed("token"))
}
