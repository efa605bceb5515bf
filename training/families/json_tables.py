"""Property names of JSON objects with the value each gets when a text gives none.

Every other name gets a value by its type alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _pairs(text: str) -> dict[str, str]:
    """Name and value per entry, as "name=value; name=value"."""
    entries = (entry.strip().split("=", 1) for entry in text.split(";"))
    return {name: " ".join(value.split()) for name, value in entries}


STRINGS: Mapping[str, str] = _pairs(
    """name=Anna; first_name=Anna; last_name=Smith; surname=Smith; full_name=Anna Smith;
    nickname=Annie; username=anna; user=anna; login=anna; password=secret;
    email=anna@example.com; email_address=anna@example.com; phone=555-0100;
    phone_number=555-0100; city=Paris; town=Paris; capital=Paris; country=France;
    nationality=French; language=English; continent=Europe; region=North; state=Texas;
    street=Main Street; address=1 Main Street; zip=10001; zip_code=10001; postcode=10001;
    postal_code=10001; company=Acme; employer=Acme; department=Sales; team=Blue;
    job=teacher; job_title=teacher; occupation=teacher; profession=teacher; role=user;
    title=Hello; subtitle=Hello; subject=Hello; headline=Hello; text=Hello; message=Hello;
    content=Hello; body=Hello; note=Hello; comment=Hello; greeting=Hello; caption=Hello;
    summary=A short text; description=A short text; abstract=A short text;
    question=Why?; answer=yes; reason=none; author=Anna Smith; writer=Anna Smith;
    director=Anna Smith; artist=Anna Smith; owner=Anna; customer=Anna; sender=Anna;
    recipient=Ben; assignee=Ben; manager=Ben; mother=Anna; father=Ben; friend=Ben;
    book=Emma; genre=drama; publisher=Acme; album=Blue; song=Hello; movie=Hello;
    film=Hello; date=2025-01-15; start_date=2025-01-15; end_date=2025-01-31;
    due_date=2025-01-31; birth_date=1995-01-15; birthday=1995-01-15;
    date_of_birth=1995-01-15; created_at=2025-01-15; updated_at=2025-01-15; time=09:30;
    start_time=09:30; end_time=10:30; timestamp=2025-01-15T09:30:00Z; day=Monday;
    weekday=Monday; month=January; season=spring; url=https://example.com;
    link=https://example.com; website=https://example.com; image=image.png; file=file.txt;
    filename=file.txt; path=/tmp/file.txt; extension=txt; host=localhost;
    hostname=localhost; domain=example.com; ip=192.168.0.1; ip_address=192.168.0.1;
    method=GET; version=1.0; license=MIT; color=red; colour=red; shape=circle;
    material=wood; animal=cat; pet=cat; breed=poodle; species=cat; fruit=apple;
    vegetable=carrot; food=bread; dish=soup; ingredient=salt; drink=tea; flavor=vanilla;
    sport=football; hobby=reading; instrument=piano; car=Volvo; brand=Acme; make=Volvo;
    model=A1; product=lamp; product_name=lamp; item=lamp; sku=A100; code=A100; id=a1;
    user_id=a1; order_id=a1; currency=EUR; unit=kg; hotel=Grand Hotel;
    restaurant=Corner Cafe; location=Paris; place=Paris; origin=Paris; destination=Rome;
    airline=Acme Air; gate=A1; weather=sunny; forecast=sunny; condition=sunny;
    school=City School; university=City University; course=Maths; teacher=Anna;
    student=Ben; grade=A; event=party; venue=City Hall; mood=happy; emotion=happy;
    key=key; value=value; label=label; category=general; topic=general; tag=new; word=hello;
    command=ls; planet=Mars; river=Nile; gender=female; eye_color=blue; hair_color=brown;
    error=none; position=left"""
)

INTEGERS: Mapping[str, int] = {
    name: int(value)
    for name, value in _pairs(
        """age=30; id=1; user_id=1; order_id=1; product_id=1; year=2025; birth_year=1995;
        month=1; day=15; hour=9; minute=30; second=0; hours=2; minutes=30; seconds=10; days=7;
        weeks=2; months=6; years=5; count=3; total=3; quantity=2; amount=2; stock=10;
        number=1; index=0; pages=200; page=1; page_count=200; chapters=12; words=100;
        population=1000000; employees=50; members=10; students=25; children=2; siblings=1;
        guests=4; people=4; attendees=20; players=11; seats=5; doors=4; wheels=4; legs=4;
        rooms=3; bedrooms=2; floors=2; floor=1; servings=4; calories=250; score=10; points=10;
        rank=1; level=1; lives=3; wins=5; losses=2; goals=2; likes=10; views=100;
        followers=100; votes=10; reviews=20; port=8080; timeout=30; retries=3; limit=10;
        offset=0; size=10; length=10; width=5; height=5; duration=60; speed=50;
        priority=1; status_code=200; code=100; cores=4; threads=8; workers=2; memory=16;
        memory_gb=16; max_tokens=100; seed=42; zip=10001; experience=5; episodes=10;
        tracks=12; rating=5; price=10; salary=50000; distance=10; temperature=20"""
    ).items()
}

NUMBERS: Mapping[str, float] = {
    name: float(value)
    for name, value in _pairs(
        """price=9.5; cost=9.5; total=19.5; amount=9.5; subtotal=15.5; tax=1.5; tip=2.5;
        discount=0.5; fee=2.5; salary=2500.5; balance=100.5; budget=500.5; weight=70.5;
        height=1.75; width=2.5; length=2.5; depth=1.5; distance=10.5; area=20.5; volume=1.5;
        speed=50.5; temperature=20.5; humidity=0.5; pressure=1.5; rating=4.5; score=0.9;
        confidence=0.9; probability=0.5; percentage=50.5; ratio=0.5; rate=0.5; average=2.5;
        mean=2.5; median=2.5; min=0.5; max=9.5; value=1.5; latitude=48.9; longitude=2.4;
        lat=48.9; lon=2.4; lng=2.4; x=1.5; y=2.5; z=3.5; radius=1.5; angle=45.5; gpa=3.5;
        duration=1.5; hours=7.5; age=30.5; growth=1.5; top_p=0.9; latency=0.2; threshold=0.5"""
    ).items()
}

# A boolean's value is true whatever its name.
BOOLEANS: tuple[str, ...] = words(
    """is_active active is_student student is_admin admin is_open open is_available available
    in_stock is_member member married is_married has_children has_pets has_car vegetarian vegan
    is_vegan smoker enabled disabled is_enabled visible hidden is_public public private verified
    is_verified paid is_paid shipped delivered completed is_completed done finished success ok
    valid is_valid confirmed approved accepted required optional urgent important read is_read
    archived deleted online is_online subscribed newsletter employed retired alive healthy
    raining is_raining sunny cold hot spicy sweet organic fresh gluten_free fragile waterproof
    electric automatic wifi parking breakfast pool furnished stream streaming debug verbose
    cached locked is_new is_free free refundable gift answer is_correct correct is_spam
    is_positive is_urgent late"""
)

# Two of the values are given, or three where the schema wants three.
STRING_LISTS: Mapping[str, tuple[str, str, str]] = {
    "tags": ("new", "red", "small"),
    "keywords": ("new", "red", "small"),
    "labels": ("new", "red", "small"),
    "categories": ("books", "music", "games"),
    "colors": ("red", "green", "blue"),
    "colours": ("red", "green", "blue"),
    "hobbies": ("reading", "music", "chess"),
    "interests": ("reading", "music", "chess"),
    "sports": ("football", "tennis", "golf"),
    "skills": ("reading", "writing", "maths"),
    "languages": ("English", "French", "Spanish"),
    "countries": ("France", "Spain", "Italy"),
    "cities": ("Paris", "Rome", "Berlin"),
    "names": ("Anna", "Ben", "Clara"),
    "friends": ("Anna", "Ben", "Clara"),
    "members": ("Anna", "Ben", "Clara"),
    "authors": ("Anna", "Ben", "Clara"),
    "children": ("Anna", "Ben", "Clara"),
    "participants": ("Anna", "Ben", "Clara"),
    "users": ("Anna", "Ben", "Clara"),
    "ingredients": ("salt", "flour", "sugar"),
    "fruits": ("apple", "banana", "pear"),
    "vegetables": ("carrot", "potato", "onion"),
    "foods": ("bread", "cheese", "rice"),
    "animals": ("cat", "dog", "horse"),
    "pets": ("cat", "dog", "horse"),
    "days": ("Monday", "Tuesday", "Friday"),
    "genres": ("drama", "comedy", "crime"),
    "toppings": ("cheese", "onion", "ham"),
    "emails": ("anna@example.com", "ben@example.com", "clara@example.com"),
    "sizes": ("small", "medium", "large"),
    "words": ("red", "green", "blue"),
}
NUMBER_LISTS: tuple[str, ...] = words(
    "scores grades numbers values points ids prices ratings ages years sizes weights"
)

ENUMS: Mapping[str, tuple[str, ...]] = {
    "status": ("active", "inactive", "pending", "closed", "done"),
    "state": ("open", "closed", "waiting", "running"),
    "priority": ("low", "medium", "high", "urgent"),
    "level": ("beginner", "intermediate", "expert"),
    "size": ("small", "medium", "large", "tiny"),
    "color": ("red", "green", "blue", "yellow", "black", "white"),
    "colour": ("red", "green", "blue", "yellow", "black", "white"),
    "sentiment": ("positive", "negative", "neutral"),
    "mood": ("happy", "sad", "calm", "angry"),
    "role": ("admin", "user", "guest", "editor"),
    "type": ("a", "b", "c"),
    "kind": ("cat", "dog", "bird", "fish"),
    "category": ("books", "music", "games", "food"),
    "unit": ("celsius", "fahrenheit", "kelvin"),
    "season": ("spring", "summer", "autumn", "winter"),
    "direction": ("north", "south", "east", "west"),
    "gender": ("female", "male", "other"),
    "currency": ("EUR", "USD", "GBP", "JPY"),
    "language": ("en", "de", "fr", "es"),
    "weekday": ("Monday", "Tuesday", "Friday", "Sunday"),
    "severity": ("info", "warning", "error", "critical"),
    "shape": ("circle", "square", "triangle"),
    "weather": ("sunny", "cloudy", "rainy", "windy"),
    "difficulty": ("easy", "medium", "hard"),
    "answer": ("yes", "no", "maybe"),
    "plan": ("free", "basic", "pro"),
    "method": ("GET", "POST", "PUT", "DELETE"),
    "theme": ("light", "dark"),
    "payment": ("cash", "card", "transfer"),
    "transport": ("bus", "train", "car", "bike"),
    "grade": ("A", "B", "C", "D"),
    "format": ("json", "csv", "text"),
}

FORMATS: Mapping[str, str] = {
    "email": "anna@example.com",
    "date": "2025-01-15",
    "date-time": "2025-01-15T09:30:00Z",
    "time": "09:30:00Z",
    "uri": "https://example.com",
    "ipv4": "192.168.0.1",
    "hostname": "example.com",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
}

OBJECTS: tuple[str, ...] = words(
    """address user person author owner customer contact company location product item order
    details profile settings metadata info config result response data account book event job
    school team car house payment shipping billing student teacher pet weather"""
)

# Names for which no value is known: one of these words, or a modifier and one of them.
NOUNS: tuple[str, ...] = words(
    """alpha anchor area badge band basis batch beam block board bonus border branch bridge
    bucket bundle button cabin cable card cargo case cell chain channel chart check class clause
    clock cluster coach column copy corner counter cover crew cycle deck delay desk detail device
    draft drive edge engine entry factor field filter flag flow fold folder forest frame function
    garden gear group guide handle harbor hook icon input island joint journal lane layer leaf
    lens letter line list loop margin mark mask match meter mode module motor nest node object
    option outlet output packet panel part pattern peak phase piece pilot pixel plate plot pocket
    pole prefix process profile project proof pulse query queue range record relay report request
    rhythm ring root round route row rule sample scale scene scope screen section sector series
    session shelf shift signal slot source span spring stage station step storage stream style
    suffix surface switch system table target task template term test ticket token tool tower
    trace track trail trigger trunk tunnel type update valve variable vector vessel view wave
    window wire zone foo bar baz qux abc"""
)
MODIFIERS: tuple[str, ...] = words(
    """active base best big blue by cold core current daily dark deep default device double early
    empty extra fast final first fixed flat front full global green hard has head heavy hidden
    high home inner is last late left light local long loud low main max middle min mobile my
    new next night north old open outer own pre primary prior public quick raw real red
    remote right round safe second share short side slow small smart soft solid south start
    static sub sum super tail test third top total true under upper user warm web white
    wide with"""
)

DEFAULTS: Mapping[str, Any] = {
    "string": "example",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "null": None,
}
LIST_DEFAULTS: Mapping[str, tuple[Any, Any, Any]] = {
    "string": ("first", "second", "third"),
    "integer": (1, 2, 3),
    "number": (1.5, 2.5, 3.5),
    "boolean": (True, False, True),
}

# What a thing that is asked for as JSON consists of, and the type of each property.
THINGS: Mapping[str, Mapping[str, str]] = {
    thing: {
        name: {"s": "string", "i": "integer", "n": "number", "b": "boolean"}[kind]
        for name, kind in (part.split("-") for part in parts.split())
    }
    for thing, parts in _pairs(
        """a person=name-s age-i city-s; a user=username-s email-s is_active-b;
        a customer=name-s email-s city-s; a student=name-s age-i grade-s;
        a teacher=name-s school-s course-s; an employee=name-s job-s salary-i;
        a book=book-s author-s year-i; a movie=movie-s director-s year-i;
        a film=film-s director-s year-i; a song=song-s artist-s year-i;
        an album=album-s artist-s tracks-i; a product=product-s price-n in_stock-b;
        an order=order_id-i product-s quantity-i; a car=brand-s model-s year-i;
        a pet=name-s animal-s age-i; a cat=name-s age-i color-s; a dog=name-s age-i breed-s;
        a city=city-s country-s population-i; a country=country-s capital-s language-s;
        an address=street-s city-s zip-i; an event=event-s date-s city-s;
        a meeting=subject-s date-s time-s; an email=sender-s subject-s text-s;
        a message=sender-s text-s; a hotel=hotel-s city-s rooms-i;
        a restaurant=restaurant-s city-s rating-n; a recipe=dish-s servings-i minutes-i;
        a company=company-s city-s employees-i; a team=team-s sport-s members-i;
        a task=title-s priority-i done-b; a todo item=title-s done-b;
        a server=host-s port-i online-b; a house=address-s rooms-i price-i;
        a flight=airline-s origin-s destination-s; a course=course-s teacher-s students-i;
        a point=x-n y-n; a location=latitude-n longitude-n; a color=color-s;
        the weather=city-s temperature-i condition-s; a contact=name-s phone-s email-s"""
    ).items()
}
COUNTED: tuple[str, ...] = words(
    """colors colours hobbies sports languages countries cities names ingredients fruits
    vegetables foods animals pets days genres sizes"""
)
