"""The contraction table of the VQA metric, its oddities kept. Source: spec benchmarks 2.2."""

from __future__ import annotations

# The key of each is the word without its apostrophes. "I'm" and "I've" can never match: words are lower case by then.
_REGULAR = """
ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's I'm I've
isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've shouldn't
somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're there's they'd
they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd
who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
""".split()

# value: its keys. "somebodyd" is the table's own slip.
_IRREGULAR = {
    "couldn't've": "couldn'tve couldnt've",
    "hadn't've": "hadnt've hadn'tve",
    "he'd've": "hed've he'dve",
    "I'd've": "Id've I'dve",
    "it'd've": "itd've it'dve",
    "let's": "let's",
    "mightn't've": "mightnt've mightn'tve",
    "'ow's'at": "ow's'at 'ows'at 'ow'sat",
    "she'd've": "shed've she'dve",
    "she's": "she's",
    "shouldn't've": "shouldnt've shouldn'tve",
    "somebodyd": "somebody'd",
    "somebody'd've": "somebodyd've somebody'dve",
    "someone'd've": "someoned've someone'dve",
    "something'd've": "somethingd've something'dve",
    "there'd've": "thered've there'dve",
    "they'd've": "theyd've they'dve",
    "we'd've": "wed've we'dve",
    "who'd've": "whod've who'dve",
    "wouldn't've": "wouldnt've wouldn'tve",
    "y'all'll": "yall'll y'allll",
    "y'all'd've": "yall'd've y'alld've y'all'dve",
    "you'd've": "youd've you'dve",
}

CONTRACTIONS = {word.replace("'", ""): word for word in _REGULAR} | {
    key: value for value, keys in _IRREGULAR.items() for key in keys.split()
}
