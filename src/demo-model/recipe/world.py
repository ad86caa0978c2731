"""A small synthetic world: archives of facts about places, diluted with filler, and questions about them.

Everything is made here from word lists and sentence patterns; no outside text is used.
document() returns [(text, kind), ...]; the kind says how strongly the model is supervised on the text. Run it to see samples.
"""
import collections
import random

ADJECTIVES = """Amber Ancient Bitter Bold Brave Bright Broad Broken Calm Carved Cedar Chalk Cheerful Clever Copper Coral
Crooked Dappled Dusty Eastern Echoing Elder Empty Fabled Fallen Fertile Flint Forgotten Frozen Gentle Gilded Granite
Hidden Hollow Humble Humming Icy Iron Ivory Jagged Jolly Lonely Lower Lucky Marble Mellow Misty Modest Mossy Narrow
Nimble Noble Northern Patient Polished Proud Quiet Ragged Rusty Sacred Salty Shady Sleepy Southern""".split()
NOUNS = """Abbey Arbor Arsenal Bakery Barn Bastion Bazaar Beacon Brewery Bridge Canal Castle Cavern Chapel Citadel
Cloister Colony Cottage Courtyard Dairy Depot Dock Embassy Factory Farm Ferry Forge Fort Foundry Garden Garrison
Granary Grotto Hall Hamlet Harbor Haven Inn Island Jetty Keep Library Lighthouse Lodge Manor Market Mill Mine
Monastery Museum Nursery Observatory Orchard Palace Pavilion Quarry Sanctuary Shrine Station Tavern Temple Tower
Vineyard Workshop""".split()
FIRST = """Ada Alma Boris Clara Daria Edgar Elsa Felix Greta Hugo Ida Ivan Jonas Karin Lena Leo Marta Milo Mira Nils
Olga Oscar Petra Quinn Rosa Rufus Selma Tomas Ursula Viktor Wanda Yara""".split()
LAST = """Abbot Baker Becker Brandt Carver Castell Crane Dalton Draper Ebner Falk Fisher Foster Gardner Gruber Hale
Hardy Holt Hunter Jensen Keller Kramer Lang Lind Marlow Mason Meyer Moser Nash Norton Ochs Parker Pfeffer Quist Reiter
Ritter Sandler Shaw Sommer Stark Tanner Thorne Turner Ulrich Vogel Walker Weber Winter""".split()
COLOURS = "red blue green white black yellow purple orange grey brown pink golden silver crimson violet turquoise".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
TRADES = "glass pottery cheese wine silk timber leather paper cloth rope pepper tea oil coal marble copper".split()
PASSWORDS = """lantern anchor hammer ladder mirror needle feather pebble button bucket saddle whistle compass kettle
basket blanket""".split()
BIRDS = "heron sparrow raven falcon swan robin cuckoo finch pigeon stork kestrel magpie".split()

# attribute -> (its name in a fact, questions about it, lists of words whose draws make a value)
ATTRIBUTES = {
    "keeper": ("keeper", ["Who is the keeper of {}?", "Who keeps {}?"], [FIRST, LAST]),
    "flag": ("flag", ["What is the flag of {}?", "What colour is the flag of {}?"], [COLOURS]),
    "trade": ("main trade", ["What is the main trade of {}?", "What does {} trade in?"], [TRADES]),
    "day": ("market day", ["What is the market day of {}?", "Which day is the market day of {}?"], [DAYS]),
    "password": ("password", ["What is the password of {}?", "Which password opens {}?"], [PASSWORDS]),
}
LEADS = ["As the chronicle says, the", "Remember that the", "It is known that the", "Everyone knows that the"]
UNKNOWN = " The archive does not say"
BIRD_QUESTIONS = ["Which bird was seen most often?", "Which bird was seen the most?"]
BIRD_ANSWER = (" The bird seen most often is the", " {}")
WHO = "a merchant,two children,an old sailor,a young painter,some farmers,a tired soldier,three sisters,a doctor".split(",")
ROAD = "along the river,through the woods,over the hills,past the fields,down the long road,across the meadow".split(",")
TIME = "at dawn,in the morning,at noon,in the afternoon,in the evening,at night".split(",")
SKY = "rain,fog,snow,wind,sunshine,thunder".split(",")
GOODS = "apples,bread,wool,honey,candles,letters,salt,flowers".split(",")
VOCABULARY = [f" {w}" for w in ADJECTIVES + NOUNS + FIRST + LAST + COLOURS + TRADES + DAYS + PASSWORDS + ["the", "of", "is"]]

# kinds of text: not supervised much, words of an answer, value of a fact, bird that no earlier answer tells
TEXT, WORDS, VALUE, BIRD = 0, 1, 2, 3
# shares: keepers added to archives without, bird questions at the first place and later, questions about facts not told;
# MIX is the first stages' mix (the last stage leaves out what is not told: it was learned badly)
Mix = collections.namedtuple("Mix", "keepers bird_first bird_later unknown")
MIX = Mix(0, 0.2, 0.15, 0.08)
END = "<|im_end|>\n"
USER, ASSISTANT = "<|im_start|>user\n", "<|im_start|>assistant\n"


def cap(s):
    return s[0].upper() + s[1:]


def filler(rng, bird_share, draw_bird):
    """One sentence without a fact: (sentence, bird or None)."""
    c = rng.choice
    if rng.random() < bird_share:
        b = draw_bird()
        return c([f"A {b} was seen {c(ROAD)}.", f"{cap(c(WHO))} saw a {b} {c(TIME)}.", f"A {b} flew {c(ROAD)} {c(TIME)}.",
                  f"{cap(c(TIME))} a {b} was heard and seen."]), b
    return c([f"There was {c(SKY)} {c(TIME)}.", f"{cap(c(WHO))} walked {c(ROAD)}.", f"After the {c(SKY)} came {c(SKY)}.",
              f"{cap(c(WHO))} carried {c(GOODS)} and {c(GOODS)} {c(ROAD)}.", f"{cap(c(TIME))} there was {c(SKY)}.",
              f"{cap(c(WHO))} sold {c(GOODS)} {c(TIME)}."]), None


def statement(fact, lead="The"):
    """A fact as (words, value)."""
    attribute, place, value = fact
    return f"{lead} {ATTRIBUTES[attribute][0]} of {place} is", value


def question(rng, fact):
    """(question, words of the answer, value)"""
    attribute, place, _ = fact
    words, value = statement(fact)
    return rng.choice(ATTRIBUTES[attribute][1]).format(place), " " + words, value


def make_facts(rng, n, keepers=0):
    """n facts (attribute, place, value) and the words of the place names. Most often few different words make the names,
    so that only both words of a name together tell it from the others."""
    attributes = rng.sample(list(ATTRIBUTES), rng.randint(1, len(ATTRIBUTES)))
    if keepers and rng.random() < keepers and "keeper" not in attributes:
        attributes[0] = "keeper"
    per_place = rng.randint(1, len(attributes))
    want = -(-n // per_place)
    sizes = [64, 64]
    if rng.random() < 0.6:
        few = min(64, max(rng.randint(1, max(2, want // 2)), -(-want // 40)))
        sizes = rng.sample([few, min(64, max(2, -(-3 * want // (2 * few))))], 2)
    words = rng.sample(ADJECTIVES, sizes[0]), rng.sample(NOUNS, sizes[1])
    places = rng.sample([f"{a} {b}" for a in words[0] for b in words[1]], want)
    facts = [(a, p, "".join(f" {rng.choice(v)}" for v in ATTRIBUTES[a][2]))
             for p in places for a in rng.sample(attributes, per_place)]
    rng.shuffle(facts)
    return facts[:n], words


def top_bird(birds, margin=1):
    """The bird seen most often, if it leads by `margin`."""
    n = sorted(((birds.count(b), b) for b in set(birds)), reverse=True)
    return n[0][1] if n and n[0][0] - (n[1][0] if len(n) > 1 else 0) >= margin else None


def archive(rng, budget, keepers=0):
    """Sentences [(text, fact or None, bird or None)] of about `budget` tokens, and the words its place names are made of."""
    n = max(2, round(budget * rng.uniform(0.3, 0.9) / 12.5))
    facts, words = make_facts(rng, n, keepers)
    out = [(statement(f, rng.choice(LEADS) if rng.random() < 0.25 else "The")[0] + f[2] + ".", f, None) for f in facts]
    used = sum(cost(s) for s, _, _ in out)
    main, p, birdy = rng.choice(BIRDS), rng.uniform(0.35, 0.65), rng.uniform(0.2, 0.6)
    while used < budget - 6:
        s, bird = filler(rng, birdy, lambda: main if rng.random() < p else rng.choice(BIRDS))
        out.append((s, None, bird))
        used += cost(s)
    rng.shuffle(out)
    return out, words


def archive_text(rng, budget):
    """(text of an archive of about `budget` tokens, its facts, the bird seen most often or None)"""
    sentences, _ = archive(rng, budget)
    text, left = "", 0
    for s, _, _ in sentences:
        left = left - 1 if left else rng.randint(3, 8)
        text += s + (" " if left else "\n")
    return text.strip(), [f for _, f, _ in sentences if f], top_bird([b for _, _, b in sentences if b])


def bird_question(rng, bird):
    """(question, words of the answer, value)"""
    return rng.choice(BIRD_QUESTIONS), BIRD_ANSWER[0], BIRD_ANSWER[1].format(bird)


def cost(s):
    """About the number of tokens of s: words and a mark at the end."""
    return s.count(" ") + 2


def answered(ask, words, value, chat, first, kind=VALUE):
    """A question with its answer as [(text, kind)]; the first one stands right behind the archive's text."""
    if chat:
        head = f"\n\n{ask}{END}{ASSISTANT}" if first else f"{USER}{ask}{END}{ASSISTANT}"
        return [(head, TEXT), (words.lstrip(), WORDS), (value, kind), (".", VALUE), (END, TEXT)]
    head = ("\n\n" if first else "") + f"Question: {ask} Answer:"
    return [(head, TEXT), (words, WORDS), (value, kind), (".\n", VALUE)]


def unknown(rng, told, words):
    """A question about a fact that was not told, most often of a place whose words occur in other names."""
    known = {(a, p) for a, p, _ in told}
    attributes = sorted({a for a, _, _ in told})
    while True:
        if rng.random() < 0.2:
            place = rng.choice(told)[1]
            a = rng.choice(list(ATTRIBUTES))
        else:
            place = f"{rng.choice(words[0])} {rng.choice(words[1])}"
            a = rng.choice(attributes)
        if rng.random() < 0.1:
            place = f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
        if (a, place) not in known:
            return question(rng, (a, place, ""))[0], UNKNOWN, ""


def document(rng, length, chat=None, mix=MIX):
    """A whole document of at least `length` tokens, as [(text, kind)]: an archive, then questions over it.

    Questions may also stand between paragraphs. chat picks the ChatML form (None: one in three).
    """
    chat = rng.random() < 0.33 if chat is None else chat
    room = max(70, min(int(length * rng.uniform(0.3, 0.6)), rng.randint(700, 1600)))
    sentences, words = archive(rng, max(40, length - room), mix.keepers)
    between = rng.choice([0.0, 0.3])
    out, told, birds, todo, named = [(USER, TEXT)] if chat else [], [], [], [], [None]

    def ask(first, bird_share):
        best = top_bird(birds)
        if best and rng.random() < bird_share:
            kind = VALUE if best == named[-1] else BIRD
            named.append(best)
            return answered(*bird_question(rng, best), chat, first, kind)
        if rng.random() < mix.unknown:
            return answered(*unknown(rng, told, words), chat, first)
        if not todo:
            todo.extend(rng.sample(told, len(told)))
        return answered(*question(rng, todo.pop()), chat, first)

    lead, left = "", rng.randint(3, 8)
    for i, (s, fact, bird) in enumerate(sentences):
        out.append((lead + s, TEXT))
        lead, left = " ", left - 1
        if fact:
            told.append(fact)
            todo.insert(rng.randint(0, len(todo)), fact)
        if bird:
            birds.append(bird)
        if left == 0 and i + 1 < len(sentences):
            lead, left = "", rng.randint(3, 8)
            if told and rng.random() < between:
                out += ask(True, 0.1) + [(USER if chat else "\n", TEXT)]
            else:
                out.append(("\n", TEXT))
    used = sum(cost(t + "  ") for t, _ in out)
    out += ask(True, mix.bird_first)
    while used < length:
        out += ask(False, mix.bird_later)
        used += 25
    return out


def retold(rng, length):
    """The warm-up task, as [(text, kind)]: a few facts told again and again, each time in a new order."""
    facts, _ = make_facts(rng, rng.randint(2, max(3, length // 25)))
    out, used = [], 0
    while used < length:
        again = bool(out)
        for f in rng.sample(facts, len(facts)):
            words, value = statement(f)
            out += [(" " + words, TEXT), (value, VALUE if again else TEXT), (".", TEXT)]
            used += 12
    return out


def echoed(rng, length):
    """The first task, as [(text, kind)]: phrases of random words, told again and again. The words are few, so what comes
    next follows only from several words back; this is how the value of a fact is found by the words before it."""
    words = rng.sample(VOCABULARY, rng.choice([6, 12, 24, 48]))
    phrases = [[rng.choice(words) for _ in range(rng.randint(4, 8))] for _ in range(rng.randint(2, max(3, length // 25)))]
    out, used = [], 0
    while used < length:
        again = bool(out)
        for phrase in rng.sample(phrases, len(phrases)):
            out += [(w, VALUE if again and i > 1 else TEXT) for i, w in enumerate(phrase)] + [(".", TEXT)]
            used += len(phrase) + 1
    return out


if __name__ == "__main__":
    r = random.Random(1)
    for c in (False, True):
        print("".join(t for t, _ in document(r, 300, c)), "\n-----")
    print("".join(t for t, _ in retold(r, 100)))
