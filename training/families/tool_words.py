"""The words that made tools are made from; a tenth of each list is only seen in the test."""

from __future__ import annotations

from training.families.tool_values import words

ATTRIBUTES = words(
    "price weight height length size age colour owner author address status balance salary rating "
    "score population capacity version licence manager deadline duration distance temperature "
    "speed budget discount tax stock location language category phone email birthday nickname team "
    "department title rank level cost fee rent value width depth area volume pressure voltage "
    "power memory latency uptime load traffic revenue profit margin share growth risk grade "
    "average total summary description history schedule route gate platform seat room floor "
    "building warranty model brand material flavour calories ingredients recipe menu opening_hours "
    "closing_time start_date end_date delivery_date due_date birth_date postcode country "
    "mayor website currency altitude depth_limit exchange_rate interest_rate tax_rate "
    "heart_rate blood_type dosage diagnosis credit_limit account_number order_count error_rate "
    "battery_level signal_strength fuel_level mileage licence_plate serial_number"
)
ENTITIES = (
    ("city", "city"),
    ("country", "country"),
    ("person", "name"),
    ("customer", "name"),
    ("employee", "name"),
    ("student", "name"),
    ("patient", "name"),
    ("user", "name"),
    ("product", "product"),
    ("book", "title"),
    ("film", "title"),
    ("project", "title"),
    ("song", "title"),
    ("order", "code"),
    ("flight", "code"),
    ("invoice", "code"),
    ("ticket", "code"),
    ("train", "code"),
    ("account", "code"),
    ("company", "made_up"),
    ("device", "made_up"),
    ("ship", "made_up"),
    ("animal", "made_up"),
    ("file", "file"),
    ("server", "host"),
    ("machine", "host"),
    ("website", "url"),
)
VERBS = words(
    "open close start stop delete create restart archive publish approve reject cancel lock "
    "unlock print download upload rename copy check verify test deploy update install remove "
    "enable disable activate pause resume finish submit review export import share hide show "
    "refresh repair clean paint ship return reserve release block unblock invite follow mute "
    "rotate compress encrypt backup restore validate translate summarise scan sign stamp"
)
THINGS = words(
    "account file server project order invoice ticket report page post user channel device "
    "machine camera door gate window engine pump robot printer lamp database table backup branch "
    "build job task pipeline container cluster service website form survey contract payment "
    "booking flight package parcel letter photo video album playlist song lesson course exam "
    "student patient room seat car bus train ship drone sensor alarm valve oven folder"
)
THING_KINDS = ("made_up", "code", "host", "title", "made_up", "code")
RESULT_KINDS = (
    *("int:1:999", "int:1:99", "int:1:99", "number:1:99", "made_up", "made_up", "state"),
    *("name", "date", "code", "city"),
)
RESULT_UNITS = words("km kg cm percent minutes hours days celsius usd eur mb")
MODES = words(
    "eco normal turbo fast slow silent manual auto low medium high light dark day night summer "
    "winter strict open private public draft final full small large daily weekly monthly"
)
FEATURES = words(
    "logging caching tracing heating cooling notifications alerts backups encryption compression "
    "filtering replication recording streaming tracking wifi bluetooth radio sound lights alarm "
    "dark_mode safe_mode debug_mode flight_mode autosave spellcheck subtitles location_sharing "
    "maintenance_mode auto_update power_saving sprinklers irrigation fan heater cruise_control"
)
SETTINGS = words(
    "brightness contrast speed limit timeout price budget target threshold interval delay "
    "frequency pressure height width angle zoom gain power quota priority_level age weight score "
    "fan_speed font_size tab_size batch_size page_size retry_count humidity temperature_limit "
    "max_users min_stock tax_rate interest_rate heart_rate frame_rate sample_rate altitude depth"
)
LISTS = words(
    "users orders files projects servers tickets invoices books songs students devices rooms cars "
    "flights reports messages photos teams jobs backups customers products courses events contacts "
    "patients sensors robots printers accounts branches builds services recipes tasks notes alarms "
    "cameras drivers employees friends groups games holidays keys lamps machines members movies "
    "offers packages pages payments plants players ports rules shops stations suppliers tables "
    "tags teachers tools trains videos visitors warehouses windows"
)
KINDS_SENT = words("letter fax invitation card gift report parcel invoice postcard memo")
