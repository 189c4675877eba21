//! Token counts next to those of the engine.

use std::path::Path;

use weir_embed::{CountQuestion, Roles, TokenCache, TokenCounter, TokenizerError, Turn};
use weir_testenv::{QWEN, SMOLLM2, component};

use crate::engine::Engine;

const TEXTS: [&str; 14] = [
    "What does the zip() function return when its inputs have different lengths?",
    "It's 12,345.678 dollars; they'll pay 3rd-party fees, WE'RE sure.",
    "def f(x):\n    if x:\n\treturn {'a': [1, 2, 3]}  # note\n\n\n    return None\n",
    "    leading and trailing blanks   \n\n  \t ",
    "请用中文解释一下量子纠缠。それから日本語でも説明してください。한국어도 부탁합니다.",
    "Emoji 🙂👩‍👩‍👧‍👦🏳️‍🌈 and flags 🇩🇪🇯🇵, hearts ❤️‍🔥!",
    "Ünïcödé naïve café Ελληνικά Русский العربية हिन्दी ไทย",
    "https://example.org/a_b?c=d&e=%20f#g <b>html</b> &amp; \\LaTeX{x^2}",
    "<|im_start|>user\ninjected<|im_end|>\n<|endoftext|>",
    "a\u{a0}b\u{2003}c\u{200b}d\u{feff}e\r\nf\rg\u{85}h",
    "١٢٣ ½ ² Ⅷ 一二三 100000000000",
    "",
    "\u{0}\u{1}\u{7f}\u{ad}\u{fffd}\u{10ffff}",
    "if(a&&b||!c){return a?.b??c;}//=== <<>>=\n#!/bin/sh -e\n$PATH",
];

fn turns<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<Turn<'a>> {
    pairs
        .iter()
        .map(|&(role, content)| Turn { role, content })
        .collect()
}

fn counts_equal_the_engine(model: &str) {
    let Some(model) = component(model) else {
        return;
    };
    let Some(engine) = Engine::start(&model) else {
        return;
    };
    let counter = TokenCounter::from_gguf(&model).unwrap();
    assert!(counter.exact());
    for text in TEXTS {
        assert_eq!(counter.count(text), engine.tokens(text), "{text:?}");
    }
    let long = "漢字".repeat(120) + &"ab".repeat(200);
    assert_eq!(
        counter.count(&long),
        engine.tokens(&long),
        "a word of a thousand bytes"
    );
    let mut chats: Vec<Vec<(&str, &str)>> = TEXTS[..11]
        .iter()
        .map(|text| vec![("user", *text)])
        .collect();
    chats.push(vec![("system", "Answer briefly."), ("user", TEXTS[0])]);
    chats.push(vec![
        ("system", TEXTS[4]),
        ("user", "first"),
        ("assistant", TEXTS[2]),
        ("user", TEXTS[5]),
    ]);
    for chat in chats {
        let ours = counter.count_chat(&turns(&chat)) as u64;
        assert_eq!(ours, engine.prompt_tokens(&chat), "{chat:?}");
    }
}

/// Makes something with a counter that asks the engine, until nothing in it is estimated.
fn asking(counter: &TokenCounter, engine: &Engine, make: impl Fn() -> usize) -> usize {
    for _ in 0..4 {
        counter.begin_again();
        let made = make();
        if counter.exact() {
            return made;
        }
        for question in counter.missed() {
            let tokens = match &question {
                CountQuestion::Text(text) => engine.tokens(text),
                CountQuestion::Template(roles) => engine.template_tokens(roles),
            };
            counter.learn(&question, u32::try_from(tokens).ok());
        }
    }
    panic!("still estimated: {:?}", counter.missed());
}

#[test]
fn counts_by_asking_the_engine_equal_its_usage() {
    for model in [SMOLLM2, QWEN] {
        let Some(model) = component(model) else {
            return;
        };
        let Some(engine) = Engine::start(&model) else {
            return;
        };
        let counter = TokenCounter::asking(&TokenCache::default(), "m");
        for text in [0, 1, 4, 5, 6, 7, 10, 13].map(|at: usize| TEXTS[at]) {
            let chats = [
                vec![("user", text)],
                vec![
                    ("system", text),
                    ("user", "hi"),
                    ("assistant", text),
                    ("user", text),
                ],
                vec![("system", "Be brief."), ("user", text), ("user", "again")],
            ];
            for chat in chats {
                let count = || counter.count_chat(&turns(&chat));
                let ours = asking(&counter, &engine, count) as u64;
                assert_eq!(ours, engine.prompt_tokens(&chat), "{chat:?}");
            }
        }
        let roles = || usize::from(counter.roles() == Roles::ALL);
        assert_eq!(asking(&counter, &engine, roles), 1);
        let block = |number: usize, text: &str| {
            let quoted = text.lines().map(|line| format!("\n> {line}"));
            format!("[Context block {number}] (score=0.{number})") + &quoted.collect::<String>()
        };
        let page = TEXTS.iter().enumerate().map(|(at, text)| block(at, text));
        let page = page.collect::<Vec<_>>().join("\n\n");
        let added = asking(&counter, &engine, || counter.count_page(&page));
        let whole = engine.tokens(&page);
        assert!(
            (whole..=whole + 2 * TEXTS.len()).contains(&added),
            "{added} for {whole}"
        );
    }
}

#[test]
fn counts_of_smollm2_equal_the_engines_own() {
    counts_equal_the_engine(SMOLLM2);
}

#[test]
fn counts_of_qwen25_equal_the_engines_own() {
    counts_equal_the_engine(QWEN);
}

#[test]
fn templates_of_the_ladder_take_system_messages_and_two_user_turns() {
    for model in [SMOLLM2, QWEN] {
        let Some(model) = component(model) else {
            return;
        };
        let counter = TokenCounter::from_gguf(&model).unwrap();
        assert_eq!(counter.roles(), Roles::ALL);
    }
}

#[test]
fn estimate_is_near_the_real_count_and_says_that_it_is_none() {
    let estimate = TokenCounter::estimate();
    assert!(!estimate.exact());
    let Some(model) = component(SMOLLM2) else {
        return;
    };
    let real = TokenCounter::from_gguf(&model).unwrap();
    for text in [TEXTS[0], TEXTS[2], TEXTS[4], TEXTS[7]] {
        let (guess, count) = (estimate.count(text) as f64, real.count(text) as f64);
        assert!(
            (0.5..3.0).contains(&(guess / count)),
            "{guess} for {count}: {text}"
        );
    }
    assert!(estimate.count_chat(&turns(&[("user", TEXTS[0])])) > estimate.count(TEXTS[0]));
}

#[test]
fn file_that_is_no_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("not-a-model.gguf");
    std::fs::write(&path, "hello").unwrap();
    let error = TokenCounter::from_gguf(&path).unwrap_err();
    assert!(matches!(error, TokenizerError::Unreadable(..)));
    assert!(error.to_string().contains("not-a-model.gguf"), "{error}");
    assert!(TokenCounter::from_gguf(Path::new("/nowhere.gguf")).is_err());
}
