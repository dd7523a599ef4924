"""What datatrove's filters decide about each document. usage: filter_datatrove.py INPUT.jsonl OUTPUT.jsonl spacy|whitespace

A line for each document: for each set of rules its reason (null where it passes), and the text where it changes it; the last line holds the
CPU-seconds of each set. With `whitespace`, words are what stands between white space and sentences end with words that a mark ends, as
`words: whitespace` has it; `spacy` is datatrove as it comes.
"""

import json
import sys
import time

from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.filters import c4_filters, fineweb_quality_filter, gopher_quality_filter, gopher_repetition_filter
from datatrove.utils.text import TERMINAL_PUNCTUATION

CLOSING = "\"')]}”’»」』）"


def sentences(text, _language):
    found, words = [], []
    for word in text.split():
        core = word.rstrip(CLOSING)
        words += [word] if core else []
        if core and core[-1] in TERMINAL_PUNCTUATION:
            found.append(words)
            words = []
    return found + [words] if words else found


def main():
    source, output, splitter = sys.argv[1:4]
    if splitter == "whitespace":
        for module in [fineweb_quality_filter, gopher_quality_filter, gopher_repetition_filter]:
            module.split_into_words = lambda text, _language: text.split()
        c4_filters.split_into_sentences = sentences
    filters = {
        "gopher_quality": GopherQualityFilter(),
        "gopher_repetition": GopherRepetitionFilter(),
        "c4": C4QualityFilter(),
        "fineweb": FineWebQualityFilter(),
    }
    seconds = dict.fromkeys(filters, 0.0)
    with open(source, encoding="utf-8") as lines, open(output, "w", encoding="utf-8") as out:
        for line in lines:
            row = json.loads(line)
            found = {}
            for name, rules in filters.items():
                document = Document(text=row["text"], id=row["id"])
                # What the filter before has cut is not to be had for nothing.
                for cut in [c4_filters.split_into_sentences, gopher_quality_filter.split_into_words]:
                    getattr(cut, "cache_clear", lambda: None)()
                start = time.process_time()
                try:
                    kept = rules.filter(document)
                except ZeroDivisionError:  # a text of white space alone
                    kept = (False, "error")
                seconds[name] += time.process_time() - start
                reason = kept[1] if isinstance(kept, tuple) else None if kept else "dropped"
                found[name] = {"reason": reason}
                if reason is None and document.text != row["text"]:
                    found[name]["text"] = document.text
            out.write(json.dumps({"id": row["id"], **found}) + "\n")
        out.write(json.dumps({"seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
