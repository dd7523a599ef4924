//! Trees of questions: grown on a root level by level, each node asked for a question and how it is divided.

use std::ops::Range;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};

use super::prompt::{NodePrompt, schema};
use super::read::{Reading, Wanted, read};
use super::roots::{Root, has_letters, trimmed};
use super::{AnswerForm, SplitBy};
use crate::StageError;
use crate::llm::{Answer, Ask, AskError, Asked, Llm, RougeL, Tokens};
use crate::units::Chars;

/// Draws of one tree: more than a node can be asked in one.
pub(super) const DRAWS_OF_A_TREE: u32 = 1000;

/// How trees are grown.
pub(super) struct Grower {
    pub(super) llm: Arc<Llm>,
    pub(super) split: SplitBy,
    pub(super) form: AnswerForm,
    pub(super) min_chars: u64,
    pub(super) max_depth: u32,
    pub(super) max_nodes: u32,
    pub(super) max_trees: u32,
    pub(super) chars_per_question: u64,
    pub(super) min_quota: u64,
    /// Questions that are wanted before no more trees are grown, in ten thousandths of the quota.
    pub(super) over_generate: u64,
    pub(super) min_precision: f64,
    pub(super) min_recall: Option<f64>,
    pub(super) tries: u32,
    pub(super) temperature: f64,
    pub(super) top_p: Option<f64>,
    pub(super) max_tokens: u32,
}

/// All trees of a root.
#[derive(Debug, Default)]
pub(super) struct Grown {
    pub(super) quota: u64,
    pub(super) trees: u32,
    pub(super) questions: u64,
    /// Nodes that were asked about: tree by tree, and in each level by level, from left to right.
    pub(super) nodes: Vec<Node>,
}

/// A node that was asked about.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) tree: u32,
    pub(super) path: String,
    pub(super) context: Context,
    pub(super) outcome: Result<Question, Failure>,
}

/// What a node is about.
#[derive(Debug, Clone)]
pub(super) enum Context {
    /// Bytes of the document.
    Span(Range<usize>),
    /// What the model wrote.
    Text(String),
}

impl Context {
    pub(super) fn text<'t>(&'t self, document: &'t str) -> &'t str {
        match self {
            Self::Span(span) => &document[span.clone()],
            Self::Text(text) => text,
        }
    }
}

/// A question that was found.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) question: String,
    /// Why the node has no children, if it has none.
    pub(super) stop: Option<&'static str>,
    /// Share of the halves' tokens that are in the node's text in the same order, where halves were written.
    pub(super) precision: Option<f64>,
    pub(super) answers: Vec<Answer>,
}

/// Why there is none.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) detail: String,
    pub(super) answers: Vec<Answer>,
}

/// A node that is to be asked about.
struct Open {
    path: String,
    context: Context,
    /// Where it may be divided, of a span.
    choices: Vec<usize>,
    wanted: Wanted,
    /// Why it has no children, if that is known before.
    stop: Option<&'static str>,
}

impl Grower {
    /// How many questions a root of so many characters is to have.
    pub(super) fn quota(&self, chars: u64) -> u64 {
        (chars / self.chars_per_question).max(self.min_quota)
    }

    /// Grows trees on a root until there are more questions than `over_generate` times the quota.
    ///
    /// # Errors
    /// What ends the run.
    pub(super) async fn grow(&self, document: &str, root: &Root, prompt: &NodePrompt) -> Result<Grown, StageError> {
        let mut grown = Grown { quota: self.quota(root.chars), ..Grown::default() };
        while grown.trees < self.max_trees && grown.questions * 10_000 <= self.over_generate * grown.quota {
            let before = grown.nodes.len();
            self.grow_tree(document, root, prompt, &mut grown).await?;
            grown.trees += 1;
            // What is refused for good (a text too long for the model, say) is not asked again.
            let is_hopeless = |node: &Node| matches!(&node.outcome, Err(failure) if failure.reason != "unusable_answer");
            if grown.nodes.get(before).is_some_and(is_hopeless) {
                break;
            }
        }
        Ok(grown)
    }

    /// One more tree. All nodes of a level are asked at once.
    async fn grow_tree(&self, document: &str, root: &Root, prompt: &NodePrompt, grown: &mut Grown) -> Result<(), StageError> {
        let tree = grown.trees;
        let mut level = vec![self.open(document, root, String::new(), Context::Span(root.part.clone()))];
        let mut room = self.max_nodes.saturating_sub(1);
        while !level.is_empty() {
            let asked: Vec<BoxFuture<'_, _>> = level.iter().map(|node| self.ask(document, node, tree, prompt).boxed()).collect();
            // Those that are under way when another ends the run are waited for: they are paid for.
            let answers = join_all(asked).await;
            let mut next = Vec::new();
            for (node, answer) in std::mem::take(&mut level).into_iter().zip(answers) {
                let outcome = match answer {
                    Ok(asked) => {
                        let (question, children) = self.divide(document, root, &node, asked, &mut room);
                        next.extend(children);
                        Ok(question)
                    }
                    Err(AskError::Refused { reason, detail, answers }) => Err(Failure { reason, detail, answers }),
                    Err(AskError::Stop(error)) => return Err(error),
                };
                grown.questions += u64::from(outcome.is_ok());
                grown.nodes.push(Node { tree, path: node.path, context: node.context, outcome });
            }
            level = next;
        }
        Ok(())
    }

    /// What a node is going to be asked.
    fn open(&self, document: &str, root: &Root, path: String, context: Context) -> Open {
        let is_deepest = path.len() as u64 >= u64::from(self.max_depth);
        let (mut choices, mut stop) = (Vec::new(), None);
        if let (SplitBy::Spans, Context::Span(span)) = (self.split, &context) {
            choices = root.borders.choices(document, span);
            let has_child = |&at: &usize| halves(document, span, at).into_iter().any(|half| self.is_asked(&document[half]));
            if choices.is_empty() {
                stop = Some("no_border");
            } else if !choices.iter().any(has_child) {
                stop = Some("leaf");
            }
        }
        if is_deepest {
            stop = stop.or(Some("max_depth"));
        }
        let wanted = match self.split {
            _ if stop.is_some() => Wanted::Question,
            // Where there is one way to divide it, nobody needs to be asked for it.
            SplitBy::Spans if choices.len() == 1 => Wanted::Question,
            SplitBy::Spans => Wanted::Number(choices.len() + 1),
            SplitBy::Rewrite => Wanted::Halves,
        };
        Open { path, context, choices, wanted, stop }
    }

    /// Whether a part is long enough to be a node.
    fn is_asked(&self, text: &str) -> bool {
        Chars::of(text).get() > self.min_chars && has_letters(text)
    }

    async fn ask(&self, document: &str, node: &Open, tree: u32, prompt: &NodePrompt) -> Result<Asked<Reading>, AskError> {
        let text = node.context.text(document);
        let mut parts = Vec::new();
        if let (Wanted::Number(_), Context::Span(span)) = (node.wanted, &node.context) {
            let ends = node.choices.iter().copied().chain([span.end]);
            parts.extend(ends.scan(span.start, |start, end| Some(&document[std::mem::replace(start, end)..end])));
        }
        let messages = prompt.messages(node.wanted, text, &parts).map_err(|problem| AskError::refused(problem.reason, problem.detail))?;
        let mut ask = Ask::new(messages, self.max_tokens);
        ask.temperature = Some(self.temperature);
        ask.top_p = self.top_p;
        ask.schema = (self.form == AnswerForm::Json).then(|| schema(node.wanted));
        ask.draw = tree * DRAWS_OF_A_TREE;
        ask.stand_in = prompt.stand_in(node.wanted, text, &parts);
        let (form, wanted) = (self.form, node.wanted);
        self.llm.ask_until(ask, self.tries, |answer| read(form, wanted, &answer.text, answer.cut)).await
    }

    /// The question of a node, and its children that are to be asked about. `room` is how many more nodes the tree may have.
    fn divide(&self, document: &str, root: &Root, node: &Open, asked: Asked<Reading>, room: &mut u32) -> (Question, Vec<Open>) {
        let Reading { question, after, halves: written } = asked.value;
        let mut question = Question { question, stop: node.stop, precision: None, answers: asked.all };
        let contexts = match (&node.context, written) {
            _ if node.stop.is_some() => return (question, Vec::new()),
            (context, Some(written)) => {
                let whole = context.text(document);
                let is_shorter = written.iter().all(|half| Chars::of(half) < Chars::of(whole));
                let [precision, recall] = overlap(&written, whole);
                question.precision = Some(precision);
                if !is_shorter {
                    question.stop = Some("not_shorter");
                } else if precision < self.min_precision || self.min_recall.is_some_and(|least| recall < least) {
                    question.stop = Some("hallucination");
                }
                if question.stop.is_some() {
                    return (question, Vec::new());
                }
                written.map(Context::Text)
            }
            (Context::Span(span), None) => {
                let choice = after.map_or(0, |after| after - 1);
                let Some(&at) = node.choices.get(choice) else { return (question, Vec::new()) };
                halves(document, span, at).map(Context::Span)
            }
            (Context::Text(_), None) => return (question, Vec::new()),
        };
        let of_half = |(half, context): (char, Context)| {
            self.is_asked(context.text(document)).then(|| self.open(document, root, format!("{}{half}", node.path), context))
        };
        let children: Vec<Open> = ['0', '1'].into_iter().zip(contexts).filter_map(of_half).collect();
        // Both or none.
        let n = u32::from(!children.is_empty()) + u32::from(children.len() > 1);
        match room.checked_sub(n) {
            _ if n == 0 => question.stop = Some("leaf"),
            None => question.stop = Some("max_nodes"),
            Some(left) => {
                *room = left;
                return (question, children);
            }
        }
        (question, Vec::new())
    }
}

/// The two halves of a span, without white space at their ends.
pub(super) fn halves(document: &str, span: &Range<usize>, at: usize) -> [Range<usize>; 2] {
    [trimmed(document, span.start..at), trimmed(document, at..span.end)]
}

/// ROUGE-L precision and recall of both halves together against the whole: the shares of the halves' and of the whole's tokens that are in both in the
/// same order.
///
/// Source: arXiv 2405.16579, algorithm 1, where the operands are not printed: read as the share of what the children say that the parent says.
pub(super) fn overlap(halves: &[String; 2], whole: &str) -> [f64; 2] {
    let mut both = Tokens::of(&halves[0]);
    both.add(&halves[1]);
    let rouge = RougeL::of(&both, &Tokens::of(whole));
    [rouge.precision, rouge.recall]
}
