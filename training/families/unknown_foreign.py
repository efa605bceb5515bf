"""Sentences in other languages than English, which this model does not speak."""

# ruff: noqa: RUF001

from __future__ import annotations

from training.families.topics import phrases

FOREIGN: tuple[str, ...] = phrases(
    """Wie spät ist es? | Was ist die Hauptstadt von Frankreich? | Erzähl mir einen Witz. |
    Wer bist du und was kannst du? | Schreib mir bitte ein Gedicht über den Herbst. |
    Ich verstehe das nicht. | Kannst du mir helfen? | Wie wird das Wetter morgen? |
    Was kostet ein Brot? | Wo ist der nächste Bahnhof? | Ich habe Hunger. |
    Comment ça va? | Quelle est la capitale de l'Espagne? | Raconte-moi une histoire. |
    Je ne comprends pas. | Quel temps fait-il aujourd'hui? | Peux-tu m'aider? |
    Où est la gare? | Écris un poème sur la mer. | Combien font deux et deux? |
    J'ai faim. | Qui es-tu? | Parlez-vous français? | ¿Cómo estás? |
    ¿Cuál es la capital de Italia? | Cuéntame un chiste. | No entiendo nada. |
    ¿Qué hora es? | ¿Puedes ayudarme? | ¿Dónde está la estación? |
    Escribe un poema sobre la luna. | Tengo hambre. | ¿Hablas español? | Come stai? |
    Qual è la capitale della Francia? | Raccontami una barzelletta. | Che ore sono? |
    Non capisco. | Puoi aiutarmi? | Dove si trova la stazione? |
    Scrivi una poesia sul mare. | Como você está? | Qual é a capital de Portugal? |
    Que horas são? | Você pode me ajudar? | Conte uma piada. | Não entendo. |
    Hoe gaat het? | Wat is de hoofdstad van Nederland? | Hoe laat is het? |
    Kun je me helpen? | Vertel een grap. | Hur mår du? | Vad är klockan? |
    Kan du hjälpa mig? | Hvordan har du det? | Hva er klokka? | Mitä kuuluu? |
    Paljonko kello on? | Jak się masz? | Która godzina? | Opowiedz mi dowcip. |
    Jak se máš? | Kolik je hodin? | Hogy vagy? | Mennyi az idő? | Ce mai faci? |
    Cât este ceasul? | Nasılsın? | Saat kaç? | Bana bir şiir yaz. | Apa kabar? |
    Jam berapa sekarang? | Habari gani? | Quid agis? | Quota hora est? | Как дела? |
    Который час? | Расскажи анекдот. | Какая столица Франции? | Як справи? | Τι κάνεις; |
    Τι ώρα είναι; | 你好吗？ | 现在几点？ | 法国的首都是哪里？ | 给我讲个笑话。 |
    お元気ですか？ | 今何時ですか？ | 詩を書いてください。 | 안녕하세요? |
    지금 몇 시예요? | كيف حالك؟ | كم الساعة؟ | מה שלומך? | आप कैसे हैं? | คุณสบายดีไหม |
    Bạn khỏe không?"""
)
