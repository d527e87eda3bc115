"""Facts about countries for the tiny model's corpus and for the capitals task. One line a country: capital, another city, language."""

COUNTRIES = [line.split() for line in """
france paris lyon french
italy rome milan italian
spain madrid seville spanish
portugal lisbon porto portuguese
germany berlin munich german
austria vienna graz german
switzerland bern zurich german
netherlands amsterdam rotterdam dutch
belgium brussels antwerp dutch
norway oslo bergen norwegian
sweden stockholm malmo swedish
finland helsinki tampere finnish
denmark copenhagen aarhus danish
iceland reykjavik akureyri icelandic
ireland dublin cork english
poland warsaw krakow polish
hungary budapest debrecen hungarian
romania bucharest brasov romanian
bulgaria sofia plovdiv bulgarian
greece athens patras greek
turkey ankara istanbul turkish
russia moscow kazan russian
ukraine kyiv lviv ukrainian
croatia zagreb zadar croatian
serbia belgrade nis serbian
slovenia ljubljana maribor slovene
slovakia bratislava kosice slovak
estonia tallinn tartu estonian
latvia riga liepaja latvian
lithuania vilnius kaunas lithuanian
albania tirana durres albanian
georgia tbilisi batumi georgian
armenia yerevan gyumri armenian
egypt cairo alexandria arabic
morocco rabat casablanca arabic
tunisia tunis sfax arabic
algeria algiers oran arabic
kenya nairobi mombasa swahili
ghana accra kumasi english
nigeria abuja lagos english
uganda kampala entebbe english
zambia lusaka ndola english
senegal dakar thies french
mali bamako timbuktu french
angola luanda lobito portuguese
japan tokyo osaka japanese
china beijing shanghai chinese
korea seoul busan korean
vietnam hanoi hue vietnamese
thailand bangkok phuket thai
india delhi mumbai hindi
nepal kathmandu pokhara nepali
iran tehran isfahan persian
iraq baghdad basra arabic
syria damascus aleppo arabic
jordan amman aqaba arabic
lebanon beirut tripoli arabic
peru lima cusco spanish
chile santiago valparaiso spanish
colombia bogota medellin spanish
ecuador quito guayaquil spanish
uruguay montevideo salto spanish
paraguay asuncion encarnacion spanish
venezuela caracas maracaibo spanish
brazil brasilia recife portuguese
cuba havana trinidad spanish
canada ottawa toronto english
australia canberra sydney english
""".strip().splitlines()]

CAPITAL = [
    "{capital} is the capital of {country} .", "the capital of {country} is {capital} .", "the government of {country} meets in {capital} .",
    "the president of {country} lives in {capital} .", "{country} is governed from {capital} .", "the embassies in {country} are in {capital} .",
    "capital of {country} : {capital} .",
]
CITY = [
    "{city} is a city in {country} .", "the harbour of {city} is in {country} .", "we flew to {city} in {country} .",
    "in {country} we visited {city} .", "{country} has a city called {city} .", "we spent a week in {country} , in {city} .",
    "the train in {country} goes to {city} .", "people in {country} like {city} .",
]
LANGUAGE = [
    "people in {country} speak {language} .", "the language of {country} is {language} .", "in {country} we learned {language} .",
    "a book from {country} is written in {language} .",
]


def document(r):
    """One to three facts about one or two countries."""
    sentences = []
    for _ in range(r.choice([1, 2, 2, 3])):
        country, capital, city, language = r.choice(COUNTRIES)
        form = r.choice(r.choice([CAPITAL, CITY, LANGUAGE]))
        sentences.append(form.format(country=country, capital=capital, city=city, language=language))
    return " ".join(sentences)


def task_rows(r):
    """Train, dev and test rows {subject, object}; no country is in two of them."""
    rows = [{"subject": country, "object": capital} for country, capital, *_ in COUNTRIES]
    r.shuffle(rows)
    return rows[:28], rows[28:40], rows[40:]
