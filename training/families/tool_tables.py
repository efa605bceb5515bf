"""Tools around the house and among people: what a new user writes first into a request."""

from __future__ import annotations

from training.families.tool_shapes import Param, Tool

_CITY = Param("city|city|location|place|town|city_name", "city", "The name of the city")

HOME_TOOLS: tuple[Tool, ...] = (
    Tool(
        "weather",
        "get_weather|get_weather|current_weather|weather|get_current_weather|fetch_weather",
        "Get the weather in a city|Get the current weather|Current weather of a place|Weather by "
        "city|Get the current weather in a given location|Returns the weather",
        (_CITY, Param("unit|units", "enum:celsius,fahrenheit")),
        "What is the weather in {a}?|How is the weather in {a}?|weather in {a}|What is the weather "
        "like in {a}?|Is it raining in {a}?|Weather for {a}, please.|Tell me the weather in {a}.|I "
        "am going to {a}. How is the weather there?|What's the weather in {a}?|How warm is it in "
        "{a}?|Is it cold in {a} now?|Do I need an umbrella in {a}?|What is the weather in {a} in "
        "{b}?|How is the weather in {a}, in {b}?|Weather in {a}, {b} please.|Use {b}: what is the "
        "weather in {a}?|What's the weather like in {a} today?|Check the weather in {a}.",
        "How is the weather like in {a} today?|Please check the weather for {a}.|What's the weather"
        " in {a} now?|Is it warm in {a}?|What is the weather in {a}? Use {b}.|Get the weather in "
        "{a}.",
        "temperature:int:-9:35 condition:sky",
        bare=(
            "What is the weather?|How is the weather today?|What's the weather like?|Is it "
            "raining?|Tell me the weather.|weather"
        ),
        kept_bare="What is the weather like today?|How is the weather?",
    ),
    Tool(
        "clock",
        "get_time|current_time|get_current_time|time_in_city|local_time|what_time",
        "Get the current time in a city|Local time of a place|Tells what time it is somewhere",
        (_CITY,),
        "What time is it in {a}?|Time in {a}?|Tell me the local time in {a}.|What is the current "
        "time in {a}?|How late is it in {a}?|I want to call someone in {a}. What time is it there?|"
        "current time in {a}|What's the time in {a}?|Give me the time in {a}.",
        "What is the local time in {a}?|Tell me the time in {a}, please.|What time is it now in "
        "{a}?",
        "time:time",
        bare="What time is it there?|Tell me the local time.|What's the time in that city?",
        kept_bare="What is the local time there?",
    ),
    Tool(
        "light",
        "set_light|switch_light|light_switch|control_light|toggle_light",
        "Switch the light of a room on or off|Turn a room's light on or off|Control the lights",
        (Param("room|room|room_name|location", "room"), Param("on|is_on|state_on", "bool:on,off")),
        "Turn {b} the light in the {a}.|Switch {b} the light in the {a}.|Turn the {a} light {b}.|"
        "Light {b} in the {a}, please.|The light in the {a} should be {b}.|Put the {a} light {b}.|"
        "Can you switch the {a} lights {b}?|Turn the lights in the {a} {b}.|{a} light {b}",
        "Switch the light in the {a} {b}.|Can you turn {b} the light in the {a}?|Turn {b} the {a} "
        "lights, please.",
    ),
    Tool(
        "brightness",
        "set_brightness|dim_light|change_brightness|brightness",
        "Set how bright a room is in percent|Dim the light of a room|Change a room's brightness",
        (Param("room|room_name|place", "room"), Param("percent|level|brightness", "int:1:100")),
        "Dim the {a} to {b} percent.|Set the brightness in the {a} to {b}.|Make the {a} {b} percent"
        " bright.|Brightness of the {a}: {b}|Change the brightness of the {a} to {b} percent.|I "
        "want {b} percent brightness in the {a}.|Can you dim the {a} to {b}?",
        "Set the brightness of the {a} to {b} percent.|Please dim the {a} to {b} percent.|Change "
        "the brightness in the {a} to {b}.",
    ),
    Tool(
        "heating",
        "set_temperature|set_heating|set_thermostat|heat_room|thermostat",
        "Set the temperature of a room|Set the thermostat|Heat a room to some degrees",
        (
            Param("degrees|temperature|target|celsius", "number:14:26"),
            Param("room|room_name|zone", "room"),
        ),
        "Set the temperature in the {b} to {a} degrees.|Heat the {b} to {a} degrees.|Set the "
        "thermostat to {a}.|Make it {a} degrees in the {b}.|I want {a} degrees in the {b}.|Put the "
        "heating on {a} degrees.|Warm the {b} to {a}.|{a} degrees in the {b}, please.|Set the "
        "heating to {a} degrees.|Turn the thermostat in the {b} to {a}.",
        "Set the thermostat in the {b} to {a} degrees.|Make it {a} degrees, please.|Put the heating"
        " in the {b} on {a}.",
    ),
    Tool(
        "door",
        "lock_door|lock|close_lock|secure_door",
        "Lock a door|Locks the door of a room",
        (Param("door|room|door_name", "room"),),
        "Lock the {a} door.|Please lock the door of the {a}.|Lock the door to the {a}.|Can you lock"
        " the {a}?|The {a} door should be locked.|lock {a}|Make sure that the {a} is locked.",
        "Please lock the {a} door.|Can you lock the door of the {a}?|Lock the {a}.",
    ),
    Tool(
        "alarm",
        "set_alarm|create_alarm|alarm|add_alarm|wake_up",
        "Set an alarm|Wake the user at a time|Create an alarm clock",
        (Param("time|at|alarm_time", "time", "The time"),),
        "Wake me at {a}.|Set an alarm for {a}.|Alarm at {a}, please.|I have to get up at {a}.|I "
        "need an alarm at {a}.|Set the alarm to {a}.|Can you wake me up at {a}?|alarm {a}|Wake me "
        "up at {a} tomorrow.",
        "Please set an alarm for {a}.|I need to get up at {a}. Wake me.|Set an alarm at {a}.",
        bare="Set an alarm.|Wake me up.|I need an alarm.|Can you wake me?",
        kept_bare="Please set an alarm.|Can you wake me up?",
    ),
    Tool(
        "timer",
        "set_timer|start_timer|timer|countdown|new_timer",
        "Start a timer|Set a timer in minutes|Count down some minutes",
        (Param("minutes|duration|duration_minutes|length", "int:1:90", "Minutes"),),
        "Set a timer for {a} minutes.|Start a timer of {a} minutes.|{a} minutes timer, please.|"
        "Timer: {a} minutes|Count down {a} minutes.|Tell me when {a} minutes are over.|I need a "
        "timer for {a} minutes.|Can you set a {a} minute timer?|Timer for {a} minutes.",
        "Start a timer for {a} minutes.|Set a {a} minute timer.|Please count down {a} minutes.",
        bare="Set a timer.|Start a timer, please.|I need a timer.|timer",
        kept_bare="Please start a timer.|Can you set a timer?",
    ),
    Tool(
        "email",
        "send_email|email|send_mail|mail|write_email",
        "Send an email|Send an email to somebody|Write and send a mail",
        (
            Param("to|recipient|address|email", "email", "Email address"),
            Param("subject|title", "title"),
            Param("body|text|message|content", "text"),
        ),
        "Send an email to {a} with the subject {b} and the text {c}.|Email {a}: subject {b}, text "
        "{c}.|Write an email to {a} with the subject {b} saying {c}.|Mail {a} with the subject {b} "
        "and the message {c}.|Please email {a}, subject: {b}, text: {c}|Send a mail to {a}, title "
        "{b}, that says {c}.",
        "Send a mail to {a} with the subject {b} and the message {c}.|Email {a} with the subject "
        "{b} and the text {c}.|Write an email to {a}, subject: {b}, text: {c}",
    ),
    Tool(
        "message",
        "send_message|message|text_contact|send_sms|send_text",
        "Send a message to a person|Text somebody|Send a text message to a contact",
        (
            Param("to|recipient|contact|name|person", "name"),
            Param("text|message|content|body", "text"),
        ),
        "Send {a} the message {b}.|Tell {a}: {b}|Text {a} that {b}.|Write to {a}: {b}|Message {a} "
        "saying {b}.|Send a message to {a}: {b}|Send a text to {a} saying {b}.|Let {a} know: {b}|"
        'Please tell {a} this: {b}|Send "{b}" to {a}.|Text "{b}" to {a}.',
        'Send a message to {a} saying {b}.|Text {a}: {b}|Please send "{b}" to {a}.|Write {a} the '
        "message {b}.",
    ),
    Tool(
        "phone",
        "call_contact|call|phone|make_call|dial|call_person",
        "Call a person|Phone a contact|Start a phone call",
        (Param("name|contact|person|who", "name"),),
        "Call {a}.|Phone {a}, please.|Ring {a}.|Start a call with {a}.|I want to talk to {a} on the"
        " phone.|Can you call {a}?|Give {a} a call.|Make a phone call to {a}.|I need to phone {a}.|"
        "call {a} for me",
        "Please call {a}.|Can you phone {a}?|Make a call to {a}.|I want to call {a}.",
        bare="I want to call someone.|Make a phone call.|Can you call someone for me?",
        kept_bare="Make a call, please.|I want to make a phone call.",
    ),
    Tool(
        "contacts",
        "find_contact|get_phone_number|lookup_contact|get_contact|contact_info",
        "Find the phone number of a contact|Look up a contact's number|Get a person's phone number",
        (Param("name|contact|person|full_name", "name"),),
        "What is the phone number of {a}?|Find the number of {a}.|Look up {a} in my contacts.|{a}'s"
        " phone number?|How can I reach {a} by phone?|Give me the phone number of {a}.|Which number"
        " does {a} have?|I need the number of {a}.|Do I have a number for {a}?",
        "Find the phone number of {a}.|What number does {a} have?|Look up the phone number of {a}.",
        "phone_number:phone",
    ),
    Tool(
        "calendar",
        "create_event|add_event|schedule_meeting|add_to_calendar|new_appointment|book_meeting",
        "Add an event to the calendar|Create a calendar event|Schedule a meeting",
        (
            Param("title|name|event|subject", "title"),
            Param("date|day|on", "date", "The date"),
            Param("time|start|at|start_time", "time"),
        ),
        "Add {a} to my calendar on {b} at {c}.|Schedule {a} for {b} at {c}.|Put {a} on {b} at {c} "
        "into the calendar.|Plan {a} on {b}.|Create an event {a} on {b} at {c}.|New event: {a}, {b}"
        ", {c}|I have {a} on {b} at {c}. Put it in my calendar.|Add {a} to my calendar on {b}.|"
        "Schedule a meeting called {a} on {b}.|Book {a} on {b} at {c}.",
        "Create an event called {a} on {b} at {c}.|Put {a} into my calendar on {b}.|Schedule {a} on"
        " {b} at {c}.|Plan {a} for {b} at {c}.",
    ),
    Tool(
        "calendar",
        "list_events|get_events|show_calendar|get_schedule|agenda|my_events",
        "List the events of a day|Show the calendar of a date|Get all meetings on a date",
        (Param("date|day|on", "date", "The date"),),
        "What do I have on {a}?|Which events are on {a}?|Show my calendar for {a}.|What is planned "
        "on {a}?|Am I free on {a}?|List my events on {a}.|Do I have meetings on {a}?|My schedule on"
        " {a}?|What is in my calendar on {a}?",
        "What is on my calendar on {a}?|Do I have events on {a}?|Show my schedule for {a}.",
        "events:list:title",
    ),
    Tool(
        "todo",
        "add_task|create_task|add_todo|new_todo|add_to_do",
        "Add a task to the to-do list|Create a task|Put something on the to-do list",
        (Param("task|title|text|todo|name", "task"),),
        'Add a task: {a}|I have to {a}. Put it on my list.|Put "{a}" on my to-do list.|New task: '
        '{a}|Add "{a}" to my tasks.|To-do: {a}|Create a task to {a}.|Add to my to-do list: {a}|I '
        "need to {a}, add it to my tasks.",
        'Create a task: {a}|Add "{a}" to my to-do list.|I need to {a}. Put it on my to-do list.',
    ),
    Tool(
        "todo",
        "list_tasks|get_tasks|show_todos|get_todo_list|my_tasks",
        "List all open tasks|Show the to-do list|Get the user's tasks",
        (),
        "What is on my to-do list?|Show my tasks.|Which tasks are open?|What do I still have to do?"
        "|List all my tasks.|Give me my to-do list.|my tasks|Are there open tasks?|Show me the to-"
        "do list.",
        "List my open tasks.|What tasks do I have?|Show my to-do list, please.",
        "tasks:list:task",
    ),
    Tool(
        "reminder",
        "set_reminder|remind_me|create_reminder|add_reminder|reminder",
        "Remind the user of something at a time|Set a reminder|Create a reminder",
        (
            Param("text|what|about|message|reminder", "task"),
            Param("time|at|when", "time"),
        ),
        "Remind me at {b} to {a}.|Remind me to {a} at {b}.|Set a reminder at {b}: {a}|At {b} I must"
        " {a}. Remind me.|Reminder for {b}: {a}|Do not let me forget to {a} at {b}.|Can you remind "
        "me to {a} at {b}?|I want a reminder to {a} at {b}.",
        "Set a reminder to {a} at {b}.|Please remind me at {b} to {a}.|Can you set a reminder for "
        "{b}: {a}",
    ),
    Tool(
        "shopping",
        "add_to_shopping_list|add_item|shopping_list_add|add_groceries",
        "Add an item to the shopping list|Put something on the shopping list",
        (
            Param("item|product|name|what", "item"),
            Param("quantity|amount|count|number", "int:2:20"),
        ),
        "Put {a} on the shopping list.|Add {a} to my shopping list.|We need {a}. Put it on the "
        "shopping list.|Add {b} {a} to the shopping list.|Shopping list: {a}|I want to buy {b} {a},"
        " put that on the shopping list.|Put {b} {a} on my shopping list.|Write {a} on the shopping"
        " list.",
        "Please add {a} to the shopping list.|Put {b} {a} on the shopping list.|Write {b} {a} on my"
        " shopping list.",
    ),
    Tool(
        "music",
        "play_music|play_song|play|start_music|play_track",
        "Play a song|Play music by title|Start a song",
        (Param("title|song|track|name", "title"), Param("artist|by|band|singer", "name")),
        "Play {a}.|Play {a} by {b}.|Play the song {a}.|I want to hear {a}.|Put on {a} by {b}.|Start"
        " the song {a} by {b}.|Can you play {a}?|Let me hear {a} by {b}.|Play me the song {a} by "
        "{b}.|I would like to listen to {a}.",
        "Put on {a}.|Can you play {a} by {b}?|I want to hear the song {a}.|Start the song {a}.",
    ),
    Tool(
        "music",
        "pause_music|stop_music|pause|pause_playback|stop_playback",
        "Pause the music|Stop the music|Pause what is playing",
        (),
        "Pause the music.|Stop the song.|Stop the music, please.|Pause, please.|Silence, please.|"
        "Can you pause the song?|Please stop playing.|Music off.|pause",
        "Stop the music.|Pause the song, please.|Can you stop the music?",
    ),
    Tool(
        "volume",
        "set_volume|change_volume|volume|adjust_volume",
        "Set the volume in percent|Change how loud it is|Set the loudness",
        (Param("level|volume|percent|value", "int:0:100"),),
        "Set the volume to {a}.|Volume {a}, please.|Make it {a} percent loud.|Turn the volume to "
        "{a} percent.|Change the volume to {a}.|Put the volume at {a}.|I want the volume at {a} "
        "percent.|volume to {a}",
        "Turn the volume to {a}.|Set the volume at {a} percent.|Please change the volume to {a}.",
        is_kept_back=True,
    ),
    Tool(
        "restaurant",
        "book_table|reserve_table|make_reservation|restaurant_booking",
        "Book a table in a restaurant|Reserve a table",
        (
            Param("restaurant|place|restaurant_name|name", "title"),
            Param("people|guests|party_size|persons", "int:2:12"),
            Param("time|at|hour", "time"),
        ),
        "Book a table at {a} for {b} people at {c}.|Reserve a table for {b} at {a} at {c}.|Table "
        "for {b} at {a}, {c}.|We are {b} people and want to eat at {a} at {c}.|I need a table for "
        "{b} people at {a} at {c}.|Can you get us a table at {a} for {b} at {c}?|Make a reservation"
        " at {a} for {b} people at {c}.",
        "Reserve a table at {a} for {b} people at {c}.|Book a table for {b} at {a} at {c}.|Can you "
        "book a table at {a} for {b} people at {c}?",
        is_kept_back=True,
    ),
    Tool(
        "restaurant",
        "find_restaurants|search_restaurants|restaurants_nearby|find_food",
        "Find restaurants in a city|Search places to eat|List restaurants of a kind",
        (
            _CITY,
            Param("cuisine|food|kind|type", "enum:italian,indian,chinese,mexican,thai,greek"),
        ),
        "Where can I eat {b} food in {a}?|Find restaurants in {a}.|Find a {b} restaurant in {a}.|I "
        "am hungry. Which restaurants are in {a}?|Good restaurants in {a}?|Are there {b} "
        "restaurants in {a}?|Show me places to eat in {a}.|Where can I eat in {a}?",
        "Show me {b} restaurants in {a}.|Which restaurants are in {a}?|Are there good restaurants "
        "in {a}?",
        "restaurants:list:made_up",
    ),
    Tool(
        "vacuum",
        "start_vacuum|clean_room|vacuum_room|run_vacuum",
        "Let the robot clean a room|Start the vacuum robot|Vacuum a room",
        (Param("room|room_name|area", "room"),),
        "Vacuum the {a}.|Clean the {a} with the robot.|Start the vacuum in the {a}.|The {a} is "
        "dirty. Send the robot.|Let the robot clean the {a}.|Can you vacuum the {a}?|Please have "
        "the {a} vacuumed.",
        "Start the robot in the {a}.|Please vacuum the {a}.|Let the vacuum clean the {a}.",
        is_kept_back=True,
    ),
    Tool(
        "notes",
        "create_note|save_note|add_note|take_note|write_note",
        "Save a note|Write down a note|Take a note",
        (Param("text|content|note|body", "text"),),
        "Take a note: {a}|Write down: {a}|Note that {a}.|Save this as a note: {a}|Make a note: {a}|"
        "New note: {a}|Please write this down: {a}|Note: {a}|Save a note saying {a}.",
        "Make a note saying {a}.|Please take a note: {a}|Save this note: {a}",
    ),
)
