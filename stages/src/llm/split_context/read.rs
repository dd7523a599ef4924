//! What is read from an answer: a question, and where the text is divided or into what.

use serde_json::Value;

use super::AnswerForm;
use crate::llm::structured::dig;
use crate::units::Chars;

/// Fewest characters of a question.
const LEAST_QUESTION: u64 = 5;

/// What a node is asked for besides its question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing: there is nothing to divide, or only one way to.
    Question,
    /// Behind which of so many numbered parts the text is to be divided.
    Number(usize),
    /// The two halves, each written anew.
    Halves,
}

/// An answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    /// On one line.
    pub(super) question: String,
    /// How many parts the first half has, where that was asked for.
    pub(super) after: Option<usize>,
    /// The two halves, where they were asked for.
    pub(super) halves: Option<[String; 2]>,
}

/// Reads an answer.
///
/// # Errors
/// What is wrong with it, in words that the model is told.
pub(super) fn read(form: AnswerForm, wanted: Wanted, text: &str, is_cut: bool) -> Result<Reading, String> {
    let found = match form {
        AnswerForm::Json => json(text),
        // Where its last part was to end nobody knows.
        AnswerForm::Labels if is_cut => return Err("it is too long and was cut off".to_owned()),
        AnswerForm::Labels => labels(dig::without_thoughts(text)),
    };
    let found = found.map_err(|wrong| if is_cut { format!("it is too long and was cut off: {wrong}") } else { wrong })?;
    let named = |field: Field| format!("`{}`", field.name(form));
    let of = |field: Field| found.get(field).ok_or_else(|| format!("{} is missing", named(field)));
    let question = one_line(&of(Field::Question)?);
    if Chars::of(&question).get() < LEAST_QUESTION {
        return Err(format!("{} has fewer than {LEAST_QUESTION} characters", named(Field::Question)));
    }
    let mut reading = Reading { question, after: None, halves: None };
    match wanted {
        Wanted::Question => {}
        Wanted::Number(parts) => {
            let said = of(Field::After)?;
            let most = parts - 1;
            let number = number(&said).filter(|number| (1..=most).contains(number));
            let wrong = || format!("{} must be one number from 1 to {most}, and is `{}`", named(Field::After), head(&said));
            reading.after = Some(number.ok_or_else(wrong)?);
        }
        Wanted::Halves => {
            let half = |field: Field| {
                let half = of(field)?.trim().to_owned();
                if half.is_empty() { Err(format!("{} is empty", named(field))) } else { Ok(half) }
            };
            reading.halves = Some([half(Field::First)?, half(Field::Second)?]);
        }
    }
    Ok(reading)
}

/// A text without line breaks, or several spaces in a row.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// The beginning of what a model said, for an error.
fn head(said: &str) -> String {
    let line = one_line(said);
    if line.len() <= 40 { line } else { format!("{}…", &line[..line.floor_char_boundary(40)]) }
}

/// The one whole number in a text.
fn number(said: &str) -> Option<usize> {
    let mut numbers = said.split(|character: char| !character.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let number = numbers.next()?.parse().ok()?;
    // `1.5`, `-1` and `1 or 2` are none.
    (numbers.next().is_none() && !said.contains('-')).then_some(number)
}

/// A part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Question,
    After,
    First,
    Second,
}

impl Field {
    const ALL: [Self; 4] = [Self::Question, Self::After, Self::First, Self::Second];

    /// What it is called.
    pub(super) fn name(self, form: AnswerForm) -> &'static str {
        match (self, form) {
            (Self::Question, AnswerForm::Json) => "question",
            (Self::After, AnswerForm::Json) => "split_after",
            (Self::First, AnswerForm::Json) => "context_1",
            (Self::Second, AnswerForm::Json) => "context_2",
            (Self::Question, AnswerForm::Labels) => "Question",
            (Self::After, AnswerForm::Labels) => "Split after",
            (Self::First, AnswerForm::Labels) => "Context 1",
            (Self::Second, AnswerForm::Labels) => "Context 2",
        }
    }

    /// What it may be called too, without case and white space.
    fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Question => &["question", "问题", "問題"],
            Self::After => &["splitafter", "split_after", "分割点", "分割位置"],
            Self::First => &["context1", "context_1", "上下文1", "文本1", "内容1"],
            Self::Second => &["context2", "context_2", "上下文2", "文本2", "内容2"],
        }
    }
}

/// What was found in an answer.
#[derive(Debug, Default)]
struct Found([Option<String>; 4]);

impl Found {
    fn get(&self, field: Field) -> Option<String> {
        self.0[field as usize].clone()
    }
}

/// Digs the first object out of prose and code fences. One that holds nothing but another is opened.
fn json(text: &str) -> Result<Found, String> {
    let mut fields = dig::object(text)?;
    while let [(_, Value::Object(_))] = fields.as_slice() {
        if let Some((_, Value::Object(inner))) = fields.pop() {
            fields = inner.into_iter().collect();
        }
    }
    let mut found = Found::default();
    for field in Field::ALL {
        let value = fields.iter().find(|(name, _)| name == field.name(AnswerForm::Json)).map(|(_, value)| value);
        found.0[field as usize] = match value {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) if field == Field::After => Some(whole(number)),
            Some(Value::Null) | None => None,
            Some(other) => return Err(format!("`{}` must be text, and is {}", field.name(AnswerForm::Json), kind(other))),
        };
    }
    Ok(found)
}

/// `2.0` is the number 2 to JSON.
fn whole(number: &serde_json::Number) -> String {
    let text = number.to_string();
    text.strip_suffix(".0").map(ToOwned::to_owned).unwrap_or(text)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Null => "null",
    }
}

/// Reads parts that begin with labels, each at the beginning of a line; a part goes on to the next label, over as many lines as it likes. Nothing may
/// stand before the first.
fn labels(text: &str) -> Result<Found, String> {
    let mut found = Found::default();
    let mut open: Option<(Field, String)> = None;
    let mut close = |open: Option<(Field, String)>| match open {
        Some((field, _)) if found.0[field as usize].is_some() => Err(format!("`{}` is there twice", field.name(AnswerForm::Labels))),
        Some((field, body)) => {
            found.0[field as usize] = Some(bare(&body));
            Ok(())
        }
        None => Ok(()),
    };
    for line in framed(text) {
        match (label(line), &mut open) {
            (Some((field, rest)), _) => close(open.replace((field, rest.to_owned())))?,
            (None, Some((_, body))) => {
                body.push('\n');
                body.push_str(line);
            }
            (None, None) if line.trim().is_empty() => {}
            (None, None) => return Err(format!("`{}` stands before the first label", head(line))),
        }
    }
    close(open)?;
    Ok(found)
}

/// The lines of an answer, without blank ones, rules and code fences around them.
fn framed(text: &str) -> Vec<&str> {
    let is_frame = |line: &str| {
        let line = line.trim();
        line.is_empty()
            || line.starts_with("```")
            || (line.len() >= 3 && ["-", "*", "=", "_"].iter().any(|mark| line.replace(mark, "").is_empty()))
    };
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.iter().position(|line| !is_frame(line)).unwrap_or(lines.len());
    let end = lines.iter().rposition(|line| !is_frame(line)).map_or(start, |last| last + 1);
    lines[start..end.max(start)].to_vec()
}

/// The label that a line begins with, and what stands behind it.
fn label(line: &str) -> Option<(Field, &str)> {
    let marks = |character: char| character.is_whitespace() || matches!(character, '*' | '#' | '_' | '>' | '-' | '`' | '•');
    let line = line.trim_start_matches(marks);
    let (name, rest) = line.split_once([':', '：'])?;
    // No label is longer.
    if name.len() > 40 {
        return None;
    }
    let name: String =
        name.trim_end_matches(marks).chars().filter(|character| !character.is_whitespace()).flat_map(char::to_lowercase).collect();
    let field = Field::ALL.into_iter().find(|field| field.labels().contains(&name.as_str()))?;
    // What closes the bold type that the label is in.
    Some((field, rest.trim_start_matches(['*', '_', '`']).trim_start()))
}

/// A part without white space around it, and without the end of bold type that began before its label.
fn bare(body: &str) -> String {
    let body = body.trim();
    let is_odd = body.matches("**").count() % 2 == 1;
    body.strip_suffix("**").filter(|_| is_odd).unwrap_or(body).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(form: AnswerForm, wanted: Wanted, text: &str) -> Result<String, String> {
        read(form, wanted, text, false).map(|reading| {
            let mut all = vec![reading.question];
            all.extend(reading.after.map(|after| after.to_string()));
            all.extend(reading.halves.into_iter().flatten());
            all.join("|")
        })
    }

    #[test]
    fn an_object_is_found_wherever_it_stands() {
        let json = |text: &str| of(AnswerForm::Json, Wanted::Number(4), text);
        for good in [
            r#"{"question": "Why is it so?", "split_after": 2}"#,
            r#"Sure! Here it is: {"question": "Why is it so?", "split_after": 2} I hope that helps {or not}."#,
            "```json\n{\"split_after\": 2.0,\n \"question\": \"Why is it so?\"}\n```",
            r#"{"question": " Why\n is   it so? ", "split_after": "2", "note": [1]}"#,
            r#"{x} {"question": "Why is it so?", "split_after": "part [2]"}"#,
            r#"[{"question": "Why is it so?", "split_after": 2}]"#,
            r#"{"answer": {"question": "Why is it so?", "split_after": 2}}"#,
            r#"{"question": "Why is it so?", "split_after": 2} {"question": "Another one?", "split_after": 3}"#,
            "<think>{\"question\": \"No?!?!\"}</think>\n{\"question\": \"Why is it so?\", \"split_after\": 2}",
        ] {
            assert_eq!(json(good).as_deref(), Ok("Why is it so?|2"), "{good}");
        }
        for (bad, wrong) in [
            ("", "wanted a JSON object, found nothing"),
            ("Why is it so? 2", "wanted a JSON object, found none in the text that begins with \"Why is it so? 2\""),
            (r#"{"question": "Why is it so?", "split_after": 2"#, "the JSON ends before it is complete (EOF while parsing an object)"),
            (r#"{"Question": "Why?"}"#, "`question` is missing"),
            (r#"{"a": 1} {"question": "Why is it so?", "split_after": 2}"#, "`question` is missing"),
            (r#"{"question": "Why?", "question": "Why is it so?"}"#, "the field \"question\" is there twice"),
            (
                "{'question': 'Why is it so?'}",
                "the JSON breaks before `'question': 'Why is it so?'}` (key must be a string): names and texts stand in double quotes, here is a single one",
            ),
            (r#"{"question": null, "split_after": 2}"#, "`question` is missing"),
            (r#"{"question": "Why is it so?"}"#, "`split_after` is missing"),
            (r#"{"question": ["Why is it so?"], "split_after": 2}"#, "`question` must be text, and is a list"),
            (r#"{"question": "Why is it so?", "split_after": [2]}"#, "`split_after` must be text, and is a list"),
            (r#"{"question": " Why? ", "split_after": 2}"#, "`question` has fewer than 5 characters"),
            (r#"{"question": "Why is it so?", "split_after": 0}"#, "`split_after` must be one number from 1 to 3, and is `0`"),
            (r#"{"question": "Why is it so?", "split_after": 4}"#, "`split_after` must be one number from 1 to 3, and is `4`"),
            (r#"{"question": "Why is it so?", "split_after": -1}"#, "`split_after` must be one number from 1 to 3, and is `-1`"),
            (r#"{"question": "Why is it so?", "split_after": 1.5}"#, "`split_after` must be one number from 1 to 3, and is `1.5`"),
            (r#"{"question": "Why is it so?", "split_after": "2 or 3"}"#, "`split_after` must be one number from 1 to 3, and is `2 or 3`"),
        ] {
            assert_eq!(json(bad), Err(wrong.to_owned()), "{bad}");
        }
        let cut = read(AnswerForm::Json, Wanted::Question, r#"{"question": "Why is"#, true);
        assert_eq!(cut, Err("it is too long and was cut off: the JSON ends before it is complete (EOF while parsing a string)".to_owned()));
        assert!(read(AnswerForm::Json, Wanted::Question, r#"{"question": "Why is it so?"} and then"#, true).is_ok());
    }

    #[test]
    fn a_question_of_five_characters_is_one() {
        let json = |question: &str| of(AnswerForm::Json, Wanted::Question, &serde_json::json!({"question": question}).to_string());
        assert_eq!(json("Why \n?").as_deref(), Ok("Why ?"));
        assert_eq!(json("Why "), Err("`question` has fewer than 5 characters".to_owned()));
        assert_eq!(json("为什么呢？").as_deref(), Ok("为什么呢？"));
        assert_eq!(json("为什么？"), Err("`question` has fewer than 5 characters".to_owned()));
    }

    #[test]
    fn labels_are_read_over_many_lines() {
        let labels = |text: &str| of(AnswerForm::Labels, Wanted::Halves, text);
        for good in [
            "Question: Why so?\nContext 1: One half.\nContext 2: The other.",
            "question: Why so?\nCONTEXT 1: One half.\ncontext 2: The other.\n",
            "\n\nQuestion:\nWhy so?\n\n\nContext 1:\n\nOne half.\n\nContext 2:\nThe other.\n\n",
            "**Question:** Why so?\n**Context 1:** One half.\n**Context 2:** The other.",
            "**Question**: Why so?\n**Context 1**: One half.\n**Context 2**: The other.",
            "**Question: Why so?**\n**Context 1: One half.**\n**Context 2: The other.**",
            "### Question: Why so?\n### Context 1: One half.\n### Context 2: The other.",
            "- Question : Why so?\n- Context 1 : One half.\n- Context 2 : The other.",
            "> Question: Why\n> Context1: x",
            "```\nQuestion: Why so?\nContext 1: One half.\nContext 2: The other.\n```",
            "---\nQuestion: Why so?\nContext 1: One half.\nContext 2: The other.\n---\n",
            "问题：Why so?\n上下文1：One half.\n上下文 2：The other.",
            "Context_1: One half.\nContext_2: The other.\nQuestion: Why so?",
            "Question：Why so?\r\nContext 1: One half.\r\nContext 2: The other.\r\n",
            "_Question:_ Why so?\n`Context 1:` One half.\n__Context 2:__ The other.",
        ] {
            let read = labels(good);
            if good.starts_with('>') {
                assert_eq!(read, Err("`Question` has fewer than 5 characters".to_owned()));
            } else {
                assert_eq!(read.as_deref(), Ok("Why so?|One half.|The other."), "{good}");
            }
        }
        // A dot that does not go across lines would have left half of this behind.
        assert_eq!(
            labels("Question: Why so,\nand since when?\nContext 1: One\n\nhalf.\nContext 2: The\nother: here.").as_deref(),
            Ok("Why so, and since when?|One\n\nhalf.|The\nother: here.")
        );
        for (bad, wrong) in [
            ("", "`Question` is missing"),
            ("Why so?\nContext 1: One.\nContext 2: Two.", "`Why so?` stands before the first label"),
            ("Sure, here it is.\nQuestion: Why so?\nContext 1: One.\nContext 2: Two.", "`Sure, here it is.` stands before the first label"),
            ("Question: Why so?\nContext 1: One.", "`Context 2` is missing"),
            ("Question: Why so?\nContext 2: Two.", "`Context 1` is missing"),
            ("Context 1: One.\nContext 2: Two.", "`Question` is missing"),
            ("Question: Why so?\nContext 1:\nContext 2: Two.", "`Context 1` is empty"),
            ("Question: Why so? Context 1: One. Context 2: Two.", "`Context 1` is missing"),
            (
                "Question: Why so?\nContext 1: One.\nContext 2: Two.\n---\nQuestion: And why so?\nContext 1: A.\nContext 2: B.",
                "`Question` is there twice",
            ),
            ("Question: \nContext 1: One.\nContext 2: Two.", "`Question` has fewer than 5 characters"),
        ] {
            assert_eq!(labels(bad), Err(wrong.to_owned()), "{bad}");
        }
        let cut = read(AnswerForm::Labels, Wanted::Halves, "Question: Why so?\nContext 1: One.\nContext 2: Tw", true);
        assert_eq!(cut, Err("it is too long and was cut off".to_owned()));
    }

    #[test]
    fn a_number_can_have_a_label_too() {
        let labels = |text: &str| of(AnswerForm::Labels, Wanted::Number(3), text);
        for good in ["Question: Why so?\nSplit after: 2", "Question: Why so?\n**Split after:** [2].", "问题：Why so?\n分割点：2"] {
            assert_eq!(labels(good).as_deref(), Ok("Why so?|2"), "{good}");
        }
        assert_eq!(
            labels("Question: Why so?\nSplit after: the second"),
            Err("`Split after` must be one number from 1 to 2, and is `the second`".to_owned())
        );
        assert_eq!(labels("Question: Why so?\nSplit after: 3"), Err("`Split after` must be one number from 1 to 2, and is `3`".to_owned()));
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(text in "\\PC{0,80}|[{}\":,\\[\\]a1* \n]{0,80}|(Question|Context 1|Context 2|[: \n*a]){0,30}", cut: bool) {
            for form in [AnswerForm::Json, AnswerForm::Labels] {
                for wanted in [Wanted::Question, Wanted::Number(3), Wanted::Halves] {
                    if let Ok(reading) = read(form, wanted, &text, cut) {
                        prop_assert!(reading.question.chars().count() >= 5 && !reading.question.contains('\n'));
                        prop_assert!(reading.after.is_none_or(|after| after == 1 || after == 2));
                    }
                }
            }
        }
    }
}
